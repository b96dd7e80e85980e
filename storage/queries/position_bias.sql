-- How far the answer moves when the two responses change places, by judge and principle: 0 is none, 1 is all of it.
WITH asks AS (
    SELECT *, 1 / (1 + exp(logp_b - logp_a)) AS p_a
    FROM comparisons
    WHERE mass_outside <= 0.5 AND greatest(logp_a, logp_b) BETWEEN -1e300 AND 1e300
),
swapped AS (
    SELECT
        judge_digest,
        principle_id,
        avg(p_a) FILTER ("order" = 'ab') - avg(p_a) FILTER ("order" = 'ba') AS bias
    FROM asks
    GROUP BY judge_digest, principle_id, principle_digest, template_digest, response_a, response_b, method, reasoning IS NULL
    HAVING count(DISTINCT "order") = 2
)
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
