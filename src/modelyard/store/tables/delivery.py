"""Endpoints, deployments and rollouts."""

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text

from modelyard.store.tables.base import document, ident, metadata, moment

endpoints = Table(
    "endpoints",
    metadata,
    Column("environment", String(100), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("model", String(256), nullable=False),
    ident("live", nullable=True),
    ident("previous", nullable=True),
    moment("warm_until", nullable=True),
    document("watch", nullable=True),
    document("rollout", nullable=True),
    document("scale", nullable=True),
    document("hosting", nullable=True),
    document("abort_if", nullable=True),
    moment("updated_at"),
)
"""`live` is the deployment that gets the traffic outside a rollout; `previous` the one to roll back to;
`watch` what the live one is judged against as long as the previous is warm; `rollout` the policy declared for this
endpoint: without one its environment's holds; `scale` likewise its workers by load, or else its model's, `hosting`
where they run and what each takes, and `abort_if` bounds in place of its environment's."""

deployments = Table(
    "deployments",
    metadata,
    ident("id", primary_key=True),
    Column("environment", String(100), nullable=False),
    Column("endpoint", String(200), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_by", String(200), nullable=False),
    moment("created_at"),
    ident("cause", nullable=True),
    Column("state", String(20), nullable=False),
    Index("ix_deployments_endpoint", "environment", "endpoint", "created_at"),
)

rollouts = Table(
    "rollouts",
    metadata,
    ident("id", primary_key=True),
    Column("environment", String(100), nullable=False),
    Column("endpoint", String(200), nullable=False),
    ident("from_deployment", nullable=True),
    ident("to_deployment", nullable=False),
    Column("state", String(20), nullable=False),
    document("policy"),
    Column("step", Integer, nullable=False),
    Column("share", Float, nullable=False),
    moment("step_started_at", nullable=True),
    moment("started_at"),
    moment("ended_at", nullable=True),
    document("baseline", nullable=True),
    Column("reason", Text, nullable=True),
    Column("kind", String(20), nullable=False),
    Column("accept_breaking", Text, nullable=True),
    Column("started_by", String(200), nullable=False),
    ident("cause", nullable=True),
    Index("ix_rollouts_endpoint", "environment", "endpoint", "started_at"),
    Index("ix_rollouts_state", "state"),
)

agents = Table(
    "agents",
    metadata,
    Column("environment", String(100), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("principal", String(200), nullable=False),
    moment("seen_at"),
    document("report"),
)
"""Machines that only serve: what each said last."""
