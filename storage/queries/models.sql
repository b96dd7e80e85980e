-- The models that were trained, from what, and their metrics.
SELECT name, stage, model_digest[:8] AS digest, parent_digest[:8] AS parent, run_id[:8] AS run, path, inputs, metrics
FROM models
ORDER BY run_id, stage, name, digest;
