-- How many rows each table holds, and how many were dropped on the way there, by stage and reason.
SELECT 'rows' AS what, step, '' AS reason, n
FROM (
    SELECT 1 AS place, 'prompts' AS step, count(*) AS n FROM prompts
    UNION ALL SELECT 2, 'responses', count(*) FROM responses
    UNION ALL SELECT 3, 'revisions', count(*) FROM revisions
    UNION ALL SELECT 4, 'comparisons', count(*) FROM comparisons
    UNION ALL SELECT 5, 'preferences', count(*) FROM preferences
    ORDER BY place
)
UNION ALL
FROM (SELECT 'rejects', stage, reason, count(*) AS n FROM rejects GROUP BY stage, reason ORDER BY stage, n DESC, reason);
