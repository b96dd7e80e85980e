-- What was run, the newest first.
SELECT run_id, profile, status, started_at, constitution_digest[:8] AS constitution FROM runs ORDER BY started_at DESC, run_id;
