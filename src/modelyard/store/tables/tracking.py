"""Experiments, runs, metrics, params, tags, datasets, logged models and artifacts."""

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, String, Table, Text

from modelyard.store.tables.base import Serial, document, ident, metadata, moment

experiments = Table(
    "experiments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", String(500), nullable=False, unique=True),
    Column("artifact_location", String(1000), nullable=False),
    Column("lifecycle", String(20), nullable=False),
    moment("created_at"),
    moment("updated_at"),
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", Serial, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("num", Serial, primary_key=True, autoincrement=True),
    ident("id", nullable=False, unique=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False),
    Column("name", String(250), nullable=False),
    Column("user_id", String(256), nullable=False),
    Column("author", String(200), nullable=False),
    Column("status", String(20), nullable=False),
    Column("lifecycle", String(20), nullable=False),
    moment("started_at"),
    moment("ended_at", nullable=True),
    ident("pipeline_run_id", nullable=True),
    Index("ix_runs_experiment", "experiment_id", "lifecycle", "started_at"),
    Index("ix_runs_pipeline_run", "pipeline_run_id"),
)

run_params = Table(
    "run_params",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_run_params_key", "key", "value"),
)

run_tags = Table(
    "run_tags",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_run_tags_key", "key"),
)

metric_points = Table(
    "metric_points",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), nullable=False),
    Column("key", String(250), nullable=False),
    Column("value", Float, nullable=True),
    Column("special", String(10), nullable=True),
    Column("step", BigInteger, nullable=False),
    moment("time"),
    ident("model_id", nullable=True),
    Column("dataset", String(600), nullable=True),
    Index("ix_metric_points_run_key", "run", "key"),
)
"""`special` is NaN, Infinity or -Infinity where `value` cannot hold the number on every database."""

latest_metrics = Table(
    "latest_metrics",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Float, nullable=True),
    Column("special", String(10), nullable=True),
    Column("step", BigInteger, nullable=False),
    moment("time"),
    Index("ix_latest_metrics_key", "key", "value"),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("digest", String(100), primary_key=True),
    Column("name", String(500), primary_key=True),
    document("content"),
)
"""kind: dataset, model-input or model-output."""

logged_models = Table(
    "logged_models",
    metadata,
    ident("id", primary_key=True),
    Column("experiment_id", Serial, ForeignKey("experiments.id"), nullable=False),
    Column("name", String(500), nullable=False),
    ident("run_id", nullable=True),
    Column("model_type", String(100), nullable=False),
    Column("status", String(40), nullable=False),
    Column("deleted", Boolean, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    document("params"),
    document("tags"),
    Index("ix_logged_models_experiment", "experiment_id", "created_at"),
    Index("ix_logged_models_run", "run_id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("path", String(1500), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    moment("created_at"),
    Index("ix_artifacts_digest", "digest"),
)
"""What clients call a path is a key of this table; the bytes are found by digest."""
