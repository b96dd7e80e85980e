-- Which model was put to use, where, when and why; the highest number of a channel counts.
SELECT channel, number, model_digest[:8] AS digest, name, previous_digest[:8] AS previous, promoted_at, note, stale
FROM promotions LEFT JOIN models USING (model_digest)
ORDER BY channel, number DESC;
