-- A few chains side by side: the question, the first response, and the text after every round.
SELECT
    r.prompt_id[:8] AS prompt,
    p.messages[-1].content AS question,
    r.text AS response,
    list(v.principle_id ORDER BY v."round", v.revision_id) AS principles,
    list(v.critique ORDER BY v."round", v.revision_id) AS critiques,
    list(v.text ORDER BY v."round", v.revision_id) AS revisions
FROM responses AS r
JOIN revisions AS v USING (response_id)
LEFT JOIN prompts AS p ON p.prompt_id = r.prompt_id
GROUP BY r.response_id, r.prompt_id, p.messages, r.text
ORDER BY r.response_id
LIMIT 5;
