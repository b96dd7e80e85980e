-- Which model was put to use, where, when and why, and who overrode its gate; the highest number of a channel counts.
SELECT channel, number, model_digest[:8] AS digest, name, previous_digest[:8] AS previous, promoted_at, note, stale,
    person AS overridden_by, overrides.reason AS override_reason, verdict AS overridden_verdict
FROM promotions
LEFT JOIN models USING (model_digest)
LEFT JOIN overrides USING (promotion_id, model_digest)
ORDER BY channel, number DESC;
