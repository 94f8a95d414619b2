"""Experiments, runs, metrics, params, tags, datasets, logged models and artifacts."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from modelyard.store.tables.base import Serial, document, ident, metadata, moment

experiments = Table(
    "experiments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", String(500), nullable=False, unique=True),
    Column("artifact_location", String(2048), nullable=False),
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
    moment("deleted_at", nullable=True),
    ident("pipeline_run_id", nullable=True),
    Column("elsewhere", String(2200), nullable=True),
    Index("ix_runs_experiment", "experiment_id", "lifecycle", "started_at"),
    Index("ix_runs_pipeline_run", "pipeline_run_id"),
)

run_params = Table(
    "run_params",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_run_params_value", "key", "value").ddl_if(dialect="sqlite"),
    Index("ix_run_params_key", "key").ddl_if(dialect="postgresql"),
    sqlite_with_rowid=False,
)
"""PostgreSQL's index entries hold 2,700 bytes, less than a value may have; there only the key is indexed."""

run_tags = Table(
    "run_tags",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_run_tags_value", "key", "value").ddl_if(dialect="sqlite"),
    Index("ix_run_tags_key", "key").ddl_if(dialect="postgresql"),
    sqlite_with_rowid=False,
)

metric_points = Table(
    "metric_points",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    moment("time", primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("value", Double, primary_key=True),
    Column("is_nan", Boolean, primary_key=True),
    sqlite_with_rowid=False,
)
"""A point logged twice is one point. Where `is_nan`, `value` is 0: no database keys by NaN."""

latest_metrics = Table(
    "latest_metrics",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Double, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("step", BigInteger, nullable=False),
    moment("time"),
    Index("ix_latest_metrics_value", "key", "is_nan", "value"),
    sqlite_with_rowid=False,
)
"""Of each metric the point with the greatest (step, time, value)."""

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("digest", String(100), primary_key=True),
    Column("name", String(500), primary_key=True),
    Column("context", String(500), nullable=True),
    document("content"),
    Index("ix_run_inputs_name", "kind", "name"),
)
"""kind: dataset, model-input or model-output. `context` is what a run used a dataset for (training, eval, ...)."""

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
    Column("elsewhere", String(2200), nullable=True),
    Index("ix_logged_models_experiment", "experiment_id", "created_at"),
    Index("ix_logged_models_run", "run_id"),
)

model_metrics = Table(
    "model_metrics",
    metadata,
    ident("model_id", primary_key=True),
    Column("key", String(250), primary_key=True),
    moment("time", primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("run", Serial, ForeignKey("runs.num", ondelete="CASCADE"), primary_key=True),
    Column("value", Double, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("dataset_name", String(500), nullable=True),
    Column("dataset_digest", String(100), nullable=True),
    Index("ix_model_metrics_key", "key", "value"),
)
"""Metrics that runs logged about a logged model, on a dataset where one is named."""

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

uploads = Table(
    "uploads",
    metadata,
    ident("id", primary_key=True),
    Column("path", String(1500), nullable=False),
    Column("parts", Integer, nullable=False),
    Column("author", String(200), nullable=False),
    Column("secret", String(64), nullable=False),
    Column("done", Boolean, nullable=False),
    moment("created_at"),
)
"""Files on their way in, part by part."""

upload_parts = Table(
    "upload_parts",
    metadata,
    ident("upload", primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(["upload"], ["uploads.id"], ondelete="CASCADE"),
)
