"""What the monitors found, and the alerts that people answer."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from modelyard.store.tables.base import document, ident, metadata, moment

monitor_results = Table(
    "monitor_results",
    metadata,
    ident("id", primary_key=True),
    Column("environment", String(100), nullable=False),
    Column("endpoint", String(200), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(50), nullable=False),
    moment("created_at"),
    moment("window_start"),
    moment("window_end"),
    Column("rows", Integer, nullable=False),
    Column("verdict", String(20), nullable=False),
    document("result"),
    Index("ix_monitor_results_endpoint", "environment", "endpoint", "created_at"),
)

alerts = Table(
    "alerts",
    metadata,
    ident("id", primary_key=True),
    Column("environment", String(100), nullable=False),
    Column("endpoint", String(200), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(50), nullable=False),
    Column("severity", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("title", Text, nullable=False),
    document("detail"),
    moment("opened_at"),
    moment("updated_at"),
    Column("times_seen", Integer, nullable=False),
    Column("acknowledged_by", String(200), nullable=True),
    Column("note", Text, nullable=True),
    moment("resolved_at", nullable=True),
    ident("event_id", nullable=True),
    Index("ix_alerts_state", "state"),
    Index("ix_alerts_endpoint", "environment", "endpoint", "kind"),
)
