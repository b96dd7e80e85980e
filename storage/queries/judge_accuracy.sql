-- How often each judge agrees with the gold annotations, ties as one half, and its Brier score, by principle and over all.
WITH gold AS (
    SELECT response_a, response_b, avg(p_a) AS gold_p
    FROM annotations WHERE is_gold GROUP BY ALL HAVING gold_p != 0.5
),
opinions AS (
    SELECT judge_digest, principle_id, response_a, response_b, avg((ab + ba) / 2) AS p
    FROM verdicts SEMI JOIN gold USING (response_a, response_b)
    GROUP BY GROUPING SETS (
        (judge_digest, response_a, response_b), (judge_digest, principle_id, response_a, response_b)
    )
)
SELECT
    judge_digest[:8] AS judge,
    coalesce(opinions.principle_id, '(all)') AS principle_id,
    count(*) AS n,
    round(
        avg(CASE WHEN abs(p - 0.5) <= 0.01 + 1e-12 THEN 0.5 WHEN (p > 0.5) = (gold_p > 0.5) THEN 1 ELSE 0 END), 4
    ) AS accuracy,
    round(avg((p - (gold_p > 0.5)::INT) ** 2), 4) AS brier
FROM opinions JOIN gold USING (response_a, response_b)
GROUP BY judge_digest, opinions.principle_id
ORDER BY judge, opinions.principle_id NULLS FIRST;
