-- How unsure each judge is, by principle: mean entropy of P(a better) in nats, both orders averaged; ln 2 is 0.693.
WITH asks AS (
    SELECT *, 1 / (1 + exp(logp_b - logp_a)) AS p_a
    FROM comparisons
    WHERE mass_outside <= 0.5 AND greatest(logp_a, logp_b) BETWEEN -1e300 AND 1e300
),
verdicts AS (
    SELECT
        judge_digest,
        principle_id,
        (avg(p_a) FILTER ("order" = 'ab') + avg(p_a) FILTER ("order" = 'ba')) / 2 AS p
    FROM asks
    GROUP BY judge_digest, principle_id, principle_digest, template_digest, response_a, response_b, method, reasoning IS NULL
    HAVING count(DISTINCT "order") = 2
)
SELECT
    judge_digest[:8] AS judge,
    principle_id,
    count(*) AS n,
    round(avg(CASE WHEN p IN (0, 1) THEN 0 ELSE -p * ln(p) - (1 - p) * ln(1 - p) END), 4) AS mean_entropy,
    round(avg((abs(p - 0.5) > 0.01 + 1e-12)::INT), 4) AS fires_rate
FROM verdicts
GROUP BY judge_digest, principle_id
ORDER BY mean_entropy DESC, judge, principle_id;
