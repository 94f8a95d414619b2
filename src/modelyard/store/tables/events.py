"""The event log, subscribers' cursors, durable jobs, schedules, webhooks and leases."""

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from modelyard.store.tables.base import Serial, document, ident, metadata, moment

events = Table(
    "events",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    ident("id", nullable=False, unique=True),
    moment("time"),
    Column("type", String(100), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("actor", String(200), nullable=False),
    ident("cause", nullable=True),
    document("data"),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_events_type", "type"),
    Index("ix_events_subject", "subject"),
    Index("ix_events_cause", "cause"),
)

cursors = Table(
    "cursors",
    metadata,
    Column("subscriber", String(100), primary_key=True),
    Column("seq", Serial, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    ident("id", primary_key=True),
    Column("kind", String(50), nullable=False),
    document("payload"),
    Column("state", String(20), nullable=False),
    ident("cause", nullable=True),
    moment("created_at"),
    moment("run_after"),
    moment("lease_until", nullable=True),
    Column("owner", String(200), nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=True),
    Index("ix_jobs_state_run_after", "state", "run_after"),
)

webhooks = Table(
    "webhooks",
    metadata,
    ident("id", primary_key=True),
    Column("name", String(200), nullable=False),
    Column("url", Text, nullable=False),
    document("events"),
    Column("shape", String(20), nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", Text, nullable=True),
    Column("active", Boolean, nullable=False),
    Column("created_by", String(200), nullable=False),
    moment("created_at"),
    moment("updated_at"),
)
"""shape: cloudevents (events are our types) or mlflow (events are MLflow's entity.action)."""

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    ident("id", primary_key=True),
    Column("webhook_id", String(64), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event", String(100), nullable=False),
    document("body"),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("status", Integer, nullable=True),
    Column("error", Text, nullable=True),
    moment("created_at"),
    moment("updated_at"),
    Index("ix_webhook_deliveries_webhook", "webhook_id", "created_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("holder", String(400), nullable=False),
    moment("until"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("every_s", Float, nullable=False),
    moment("next_at"),
    Column("kind", String(50), nullable=False),
    document("payload"),
)
