-- Where the prompts come from: count, turns and length, by source and split.
SELECT
    source,
    split,
    licence,
    count(*) AS n,
    round(avg(len(messages)), 2) AS messages_per_prompt,
    round(avg((len(messages) > 1)::INT), 3) AS multi_turn_rate,
    round(avg(list_sum([len(m.content) FOR m IN messages])), 0) AS chars_per_prompt
FROM prompts
GROUP BY source, split, licence
ORDER BY source, split;
