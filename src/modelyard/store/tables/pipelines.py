"""Pipeline runs and their steps."""

from sqlalchemy import Column, Float, ForeignKey, Index, String, Table, Text, UniqueConstraint

from modelyard.store.tables.base import document, ident, metadata, moment

pipeline_runs = Table(
    "pipeline_runs",
    metadata,
    ident("id", primary_key=True),
    Column("pipeline", String(300), nullable=False),
    document("params"),
    document("code"),
    Column("state", String(20), nullable=False),
    Column("started_by", String(200), nullable=False),
    ident("cause", nullable=True),
    moment("started_at"),
    moment("ended_at", nullable=True),
    Column("error", Text, nullable=True),
    Index("ix_pipeline_runs_started_at", "started_at"),
)

step_runs = Table(
    "step_runs",
    metadata,
    Column("pipeline_run_id", String(64), ForeignKey("pipeline_runs.id"), primary_key=True),
    Column("step", String(200), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("key", String(64), nullable=False),
    Column("seconds", Float, nullable=False),
    moment("started_at"),
    moment("ended_at", nullable=True),
    Column("error", Text, nullable=True),
    document("details"),
)

commit_runs = Table(
    "commit_runs",
    metadata,
    ident("id", primary_key=True),
    Column("repository", String(200), nullable=False),
    Column("branch", String(300), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("delivery", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    ident("cause", nullable=True),
    moment("pushed_at"),
    moment("ended_at", nullable=True),
    Column("error", Text, nullable=True),
    UniqueConstraint("repository", "delivery"),
    Index("ix_commit_runs_repository_state", "repository", "state"),
)
