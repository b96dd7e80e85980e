-- How much the longer response (in characters) is preferred, by judge and principle: mean P(longer better) - 0.5.
WITH asks AS (
    SELECT *, 1 / (1 + exp(logp_b - logp_a)) AS p_a
    FROM comparisons
    WHERE mass_outside <= 0.5 AND greatest(logp_a, logp_b) BETWEEN -1e300 AND 1e300
),
verdicts AS (
    SELECT
        judge_digest,
        principle_id,
        response_a,
        response_b,
        (avg(p_a) FILTER ("order" = 'ab') + avg(p_a) FILTER ("order" = 'ba')) / 2 AS p
    FROM asks
    GROUP BY judge_digest, principle_id, principle_digest, template_digest, response_a, response_b, method, reasoning IS NULL
    HAVING count(DISTINCT "order") = 2
),
lengths AS (SELECT response_id, len(text) AS n FROM responses)
SELECT
    judge_digest[:8] AS judge,
    principle_id,
    count(*) AS n,
    round(avg((p - 0.5) * sign(a.n - b.n)), 4) AS length_bias,
    round(avg((p > 0.5 AND a.n > b.n OR p < 0.5 AND a.n < b.n)::INT), 4) AS longer_preferred_rate
FROM verdicts
JOIN lengths a ON a.response_id = response_a
JOIN lengths b ON b.response_id = response_b
WHERE a.n != b.n
GROUP BY judge_digest, principle_id
ORDER BY abs(length_bias) DESC, judge, principle_id;
