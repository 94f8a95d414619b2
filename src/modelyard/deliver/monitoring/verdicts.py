"""Kinds of monitor results and their verdicts; apart, so that the server needs no numbers library."""

DRIFT, QUALITY = "drift", "model_quality"
OK, WARNING, ALERT = "ok", "warning", "alert"
