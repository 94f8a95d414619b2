"""Pipeline runs and their steps, and what starts them."""

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

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

pipeline_schedules = Table(
    "pipeline_schedules",
    metadata,
    Column("pipeline", String(60), primary_key=True),
    Column("cron", Text, nullable=True),
    Column("zone", String(100), nullable=True),
    moment("next_at", nullable=True),
    Column("paused", Boolean, nullable=False),
    Column("paused_by", String(200), nullable=True),
    Column("paused_why", Text, nullable=True),
    Column("watched", Text, nullable=True),
)
"""One row a declared pipeline that the server starts. next_at: the next moment of its cron expression;
watched: the path whose files are known in `arrivals`."""

pipeline_starts = Table(
    "pipeline_starts",
    metadata,
    ident("id", primary_key=True),
    Column("pipeline", String(60), nullable=False),
    Column("slot", String(250), nullable=False),
    Column("kind", String(20), nullable=False),
    moment("at"),
    document("params"),
    Column("state", String(20), nullable=False),
    Column("actor", String(200), nullable=False),
    ident("cause", nullable=True),
    ident("backfill", nullable=True),
    ident("pipeline_run_id", nullable=True),
    moment("asked_at"),
    moment("started_at", nullable=True),
    moment("ended_at", nullable=True),
    Column("error", Text, nullable=True),
    UniqueConstraint("pipeline", "slot"),
    Index("ix_pipeline_starts_state", "state"),
    Index("ix_pipeline_starts_pipeline_asked_at", "pipeline", "asked_at"),
    Index("ix_pipeline_starts_backfill", "backfill"),
)
"""slot: what the start is for; the unique constraint is why each is started once, whoever asks."""

backfills = Table(
    "backfills",
    metadata,
    ident("id", primary_key=True),
    Column("pipeline", String(60), nullable=False),
    moment("first"),
    moment("last"),
    Column("every", String(200), nullable=False),
    Column("parallel", Integer, nullable=False),
    Column("dates", Integer, nullable=False),
    Column("done_before", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    ident("cause", nullable=True),
    moment("asked_at"),
    moment("cancelled_at", nullable=True),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("pipeline", String(60), primary_key=True),
    Column("path", String(1000), primary_key=True),
    Column("mark", String(300), nullable=False),
    Column("digest", String(300), nullable=False),
)
"""The files that are known of a pipeline's data. mark: size and time, or an object's tag; digest: of the content."""
