-- Every metric of every model, with its 95 % interval.
SELECT model, "set", metric, value, low, high, n, model_digest[:8] AS digest
FROM evaluations
ORDER BY "set", metric, model, digest;
