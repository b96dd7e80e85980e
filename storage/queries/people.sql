-- The labels of people: pairs, annotators, ties and how often two who labelled the same pair agree, by source.
WITH said AS (FROM annotations WHERE NOT is_gold),
agreed AS (
    SELECT one.source, one.objective, avg((sign(one.p_a - 0.5) = sign(other.p_a - 0.5))::INT) AS agreement
    FROM said AS one
    JOIN said AS other USING (response_a, response_b, objective)
    WHERE one.annotation_id <> other.annotation_id
    GROUP BY one.source, one.objective
)
SELECT
    source,
    objective,
    count(*) AS n_labels,
    count(DISTINCT (response_a, response_b)) AS n_pairs,
    count(DISTINCT annotator) FILTER (annotator <> '') AS n_annotators,
    count(DISTINCT "group") FILTER ("group" <> '') AS n_groups,
    round(avg((p_a = 0.5)::INT), 3) AS tie_rate,
    round(any_value(agreement), 3) AS agreement
FROM said
LEFT JOIN agreed USING (source, objective)
GROUP BY source, objective
ORDER BY n_labels DESC, source, objective;
