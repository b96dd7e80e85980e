-- Single pairs to read, the surest first: the question, the chosen and the rejected response.
SELECT pair_id[:8] AS pair, round(soft_label, 3) AS soft_label, n_asks, messages[-1].content AS prompt, chosen, rejected
FROM preferences
ORDER BY soft_label DESC, pair_id
LIMIT 20;
