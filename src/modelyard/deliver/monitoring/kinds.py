"""The kinds of results that monitors report, their events and weights. The server reads it: no heavy import."""

DRIFT, STREAM, EXPLANATION, DATA, ESTIMATE, QUALITY, BIAS, SERVICE = (
    "drift",
    "stream",
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
    STREAM: "stream.shifted",
    EXPLANATION: "explanation.drifted",
    DATA: "data-quality.failed",
    ESTIMATE: "quality.estimated",
    QUALITY: "quality.degraded",
    BIAS: "bias.detected",
    SERVICE: "service.degraded",
}
SEVERITY = {
    DRIFT: "warning",
    STREAM: "warning",
    EXPLANATION: "warning",
    DATA: "warning",
    ESTIMATE: "warning",
    QUALITY: "critical",
    BIAS: "critical",
    SERVICE: "critical",
}
RANK = {STREAM: 0, DRIFT: 1, EXPLANATION: 2, DATA: 3, ESTIMATE: 4, BIAS: 5, QUALITY: 6}
"""One cause shows itself in several kinds: an alert speaks for the highest of them, and takes the others in."""
