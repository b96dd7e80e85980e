-- The models that were trained, from what, and their metrics.
SELECT name, stage, model_digest[:8] AS digest, parent_digest[:8] AS parent, run_id, created_at, path, inputs, metrics
FROM models
ORDER BY created_at, run_id, stage, name, digest;
