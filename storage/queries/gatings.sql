-- What the gate said of which model, for which channel and why; of one model and channel the highest number counts.
SELECT channel, name, model_digest[:8] AS digest, number, verdict, n_needed, run_id, baseline_digest[:8] AS baseline,
    judged_at, findings
FROM gatings LEFT JOIN (SELECT model_digest, name FROM models) USING (model_digest)
ORDER BY judged_at DESC, channel, digest, number DESC;
