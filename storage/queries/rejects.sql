-- What was dropped and why: count, share of its stage, and one example, by stage and reason.
SELECT
    stage,
    reason,
    count(*) AS n,
    round(count(*) / sum(count(*)) OVER (PARTITION BY stage), 3) AS share,
    min_by(detail, reject_id) AS example
FROM rejects
GROUP BY stage, reason
ORDER BY stage, n DESC, reason;
