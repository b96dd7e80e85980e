-- How far the answer moves when the two responses change places, by judge and principle: 0 is none, 1 is all of it.
WITH swapped AS (SELECT *, ab - ba AS bias FROM verdicts)
SELECT
    judge_digest[:8] AS judge,
    principle_id,
    count(*) AS n,
    round(avg(bias), 4) AS mean_bias,
    round(avg(abs(bias)), 4) AS mean_abs_bias,
    round(avg((abs(bias) > 0.5)::INT), 4) AS flips_rate
FROM swapped
GROUP BY judge_digest, principle_id
ORDER BY abs(mean_bias) DESC, judge, principle_id;
