-- What each principle did: revisions made, comparisons asked, and how far it pulled from 0.5 on average.
WITH used AS (
    SELECT principle_id, count(*) AS n_revisions FROM revisions GROUP BY principle_id
),
asked AS (
    SELECT
        principle_id,
        count(*) AS n_asks,
        count(DISTINCT (response_a, response_b)) AS n_pairs,
        avg(abs(1 / (1 + exp(logp_b - logp_a)) - 0.5)) AS pull,
        avg((abs(1 / (1 + exp(logp_b - logp_a)) - 0.5) > 0.25)::INT) AS decided,
        avg(mass_outside) AS mass_outside
    FROM comparisons
    GROUP BY principle_id
)
SELECT
    principle_id,
    coalesce(n_revisions, 0) AS n_revisions,
    coalesce(n_asks, 0) AS n_asks,
    coalesce(n_pairs, 0) AS n_pairs,
    round(decided, 3) AS decided_rate,
    round(pull, 4) AS mean_abs_delta,
    round(mass_outside, 4) AS mean_mass_outside
FROM used FULL JOIN asked USING (principle_id)
ORDER BY principle_id;
