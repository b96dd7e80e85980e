-- Prompts that repeated a held-out one and were kept from training: how, found when, for which data set.
SELECT
    held_out_id,
    how,
    found,
    dataset,
    reason,
    contaminations.source,
    contaminations.prompt_id,
    held.messages[-1].content AS held_out
FROM contaminations LEFT JOIN prompts AS held ON held.prompt_id = held_out_id
ORDER BY held_out_id, how, contaminations.prompt_id, found, dataset;
