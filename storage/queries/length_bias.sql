-- How much the longer response (in characters) is preferred, by judge and principle: mean P(longer better) - 0.5.
WITH averaged AS (SELECT *, (ab + ba) / 2 AS p FROM verdicts),
lengths AS (SELECT response_id, len(text) AS n FROM responses)
SELECT
    judge_digest[:8] AS judge,
    principle_id,
    count(*) AS n,
    round(avg((p - 0.5) * sign(a.n - b.n)), 4) AS length_bias,
    round(avg((p > 0.5 AND a.n > b.n OR p < 0.5 AND a.n < b.n)::INT), 4) AS longer_preferred_rate
FROM averaged
JOIN lengths a ON a.response_id = response_a
JOIN lengths b ON b.response_id = response_b
WHERE a.n != b.n
GROUP BY judge_digest, principle_id
ORDER BY abs(length_bias) DESC, judge, principle_id;
