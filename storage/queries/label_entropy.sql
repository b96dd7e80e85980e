-- How unsure each judge is, by principle: mean entropy of P(a better) in nats, both orders averaged; ln 2 is 0.693.
WITH averaged AS (SELECT *, (ab + ba) / 2 AS p FROM verdicts)
SELECT
    judge_digest[:8] AS judge,
    principle_id,
    count(*) AS n,
    round(avg(CASE WHEN p IN (0, 1) THEN 0 ELSE -p * ln(p) - (1 - p) * ln(1 - p) END), 4) AS mean_entropy,
    round(avg((abs(p - 0.5) > 0.01 + 1e-12)::INT), 4) AS fires_rate
FROM averaged
GROUP BY judge_digest, principle_id
ORDER BY mean_entropy DESC, judge, principle_id;
