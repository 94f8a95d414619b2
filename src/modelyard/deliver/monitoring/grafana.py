"""A Grafana dashboard over what the gateways tell Prometheus, for those who live there."""

from typing import Any

import msgspec

SOURCE = {"type": "prometheus", "uid": "${source}"}
BY = "endpoint, version"
CHOSEN = '{endpoint=~"$endpoint"}'
PANELS: list[tuple[str, str, dict[str, str]]] = [
    ("Requests", "reqps", {"v{{version}}": f"sum by ({BY}) (rate(modelyard_requests_total{CHOSEN}[5m]))"}),
    (
        "Share of failed requests",
        "percentunit",
        {
            "v{{version}}": f"sum by ({BY}) (rate(modelyard_errors_total{CHOSEN}[5m])) / "
            f"sum by ({BY}) (rate(modelyard_requests_total{CHOSEN}[5m]))"
        },
    ),
    (
        "Latency",
        "ms",
        {
            f"p{share} v{{{{version}}}}": f"histogram_quantile(0.{share}, "
            f"sum by ({BY}, le) (rate(modelyard_latency_ms_bucket{CHOSEN}[5m])))"
            for share in (50, 99)
        },
    ),
    (
        "Share of shadow answers that differ",
        "percentunit",
        {
            "v{{version}}": f"1 - sum by ({BY}) (rate(modelyard_shadow_equal_total{CHOSEN}[1h])) / "
            f"sum by ({BY}) (rate(modelyard_shadow_compared_total{CHOSEN}[1h]))"
        },
    ),
    (
        "Workers lost and closed off",
        "short",
        {
            "retried v{{version}}": f"sum by ({BY}) (increase(modelyard_retries_total{CHOSEN}[5m]))",
            "closed off v{{version}}": f"sum by ({BY}) (increase(modelyard_circuits_total{CHOSEN}[5m]))",
        },
    ),
    (
        "Rows that the prediction log dropped",
        "short",
        {"{{endpoint}}": f"sum by (endpoint) (increase(modelyard_dropped_log_rows_total{CHOSEN}[5m]))"},
    ),
]


def dashboard() -> str:
    """The dashboard as JSON that Grafana (10 and later) imports; it asks for the Prometheus data source."""
    variables = [
        {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "endpoint",
            "type": "query",
            "datasource": SOURCE,
            "query": "label_values(modelyard_requests_total, endpoint)",
            "includeAll": True,
            "multi": True,
            "refresh": 2,
        },
    ]
    held: dict[str, Any] = {
        "uid": "modelyard",
        "title": "modelyard endpoints",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }
    return msgspec.json.format(msgspec.json.encode(held), indent=1).decode()


def _panel(number: int, title: str, unit: str, series: dict[str, str]) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + at), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for at, (legend, query) in enumerate(series.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": targets,
    }
