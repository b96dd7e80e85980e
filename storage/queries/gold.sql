-- The gold labels: pairs and prompts by source, and how many of the pairs a judge or other people have labelled too.
SELECT
    source,
    objective,
    count(*) AS n_labels,
    count(DISTINCT (response_a, response_b)) AS n_pairs,
    count(DISTINCT prompt_id) AS n_prompts,
    round(avg((p_a = 0.5)::INT), 3) AS tie_rate,
    count(DISTINCT (response_a, response_b)) FILTER (
        (response_a, response_b) IN (SELECT (response_a, response_b) FROM comparisons)
    ) AS n_judged,
    count(DISTINCT (response_a, response_b)) FILTER (
        (response_a, response_b) IN (SELECT (response_a, response_b) FROM annotations WHERE NOT is_gold)
    ) AS n_by_people
FROM annotations
WHERE is_gold
GROUP BY source, objective
ORDER BY n_labels DESC, source, objective;
