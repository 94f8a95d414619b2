"""The kinds of results that monitors report, their events and weights. The server reads it: no heavy import."""

DRIFT, DATA, ESTIMATE, QUALITY, BIAS, SERVICE = (
    "drift",
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
    DATA: "data-quality.failed",
    ESTIMATE: "quality.estimated",
    QUALITY: "quality.degraded",
    BIAS: "bias.detected",
    SERVICE: "service.degraded",
}
SEVERITY = {
    DRIFT: "warning",
    DATA: "warning",
    ESTIMATE: "warning",
    QUALITY: "critical",
    BIAS: "critical",
    SERVICE: "critical",
}
RANK = {DRIFT: 0, DATA: 1, ESTIMATE: 2, BIAS: 3, QUALITY: 4}
"""One cause shows itself in several kinds: an alert speaks for the highest of them, and takes the others in."""
