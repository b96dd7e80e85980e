-- The preference pairs: how many, how sure, how consistent, how many ties, by source, objective and judge.
SELECT
    source,
    objective,
    judge_digest[:8] AS judge,
    count(*) AS n_pairs,
    count(DISTINCT prompt_id) AS n_prompts,
    round(avg(soft_label), 3) AS mean_soft_label,
    round(avg(consistency), 3) AS mean_consistency,
    round(avg(abs(position_bias)), 3) AS mean_position_bias,
    round(avg(n_asks), 1) AS asks_per_pair,
    round(avg(is_tie::INT), 3) AS tie_rate,
    round(avg(len(chosen) - len(rejected)), 1) AS chosen_longer_by_chars
FROM preferences
GROUP BY source, objective, judge_digest
ORDER BY n_pairs DESC, source, objective, judge;
