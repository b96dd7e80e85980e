-- Tokens read and written, and how many texts were cut off, by stage and model.
WITH texts AS (
    SELECT stage, model_digest, n_prompt_tokens, n_tokens, finish_reason FROM responses
    UNION ALL
    SELECT 'revision ' || "round", model_digest, n_prompt_tokens, n_tokens, finish_reason FROM revisions
)
SELECT
    stage,
    model_digest[:8] AS model,
    count(*) AS n,
    sum(n_prompt_tokens) AS prompt_tokens,
    sum(n_tokens) AS tokens,
    round(avg(n_tokens), 1) AS tokens_per_text,
    round(avg((finish_reason = 'length')::INT), 4) AS cut_off_rate
FROM texts
GROUP BY stage, model_digest
ORDER BY stage, model;
