"""The kinds of results that monitors report, their events and weights. The server reads it: no heavy import."""

DRIFT, EXPLANATION, DATA, ESTIMATE, QUALITY, BIAS, SERVICE = (
    "drift",
    "explanation",
    "data_quality",
    "estimate",
    "model_quality",
    "bias",
    "service",
)
OK, WARNING, ALERT = "ok", "warning", "alert"
VERDICTS = (OK, WARNING, ALERT)
EVENTS = {
    DRIFT: "drift.detected",
    EXPLANATION: "explanation.drifted",
    DATA: "data-quality.failed",
    ESTIMATE: "quality.estimated",
    QUALITY: "quality.degraded",
    BIAS: "bias.detected",
    SERVICE: "service.degraded",
}
SEVERITY = {
    DRIFT: "warning",
    EXPLANATION: "warning",
    DATA: "warning",
    ESTIMATE: "warning",
    QUALITY: "critical",
    BIAS: "critical",
    SERVICE: "critical",
}
RANK = {DRIFT: 0, EXPLANATION: 1, DATA: 2, ESTIMATE: 3, BIAS: 4, QUALITY: 5}
"""One cause shows itself in several kinds: an alert speaks for the highest of them, and takes the others in."""
