"""Registered models, versions, aliases, evidence, gate results and approvals."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from modelyard.store.tables.base import document, ident, metadata, moment

models = Table(
    "models",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("description", Text, nullable=False),
    document("tags"),
    moment("created_at"),
    moment("updated_at"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(256), ForeignKey("models.name", onupdate="CASCADE", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("source", String(1000), nullable=False),
    Column("location", String(1500), nullable=True),
    ident("run_id", nullable=True),
    ident("model_id", nullable=True),
    ident("pipeline_run_id", nullable=True),
    Column("registrar", String(200), nullable=False),
    Column("author", String(200), nullable=True),
    Column("description", Text, nullable=False),
    document("tags"),
    document("lineage"),
    Column("stage", String(20), nullable=False),
    moment("created_at"),
    moment("updated_at"),
    ident("event_id", nullable=True),
    Index("ix_versions_run", "run_id"),
)

version_files = Table(
    "version_files",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("path", String(1000), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
    Index("ix_version_files_digest", "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("alias", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
)

version_states = Table(
    "version_states",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("state", String(20), nullable=False),
    moment("updated_at"),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
)

evidence = Table(
    "evidence",
    metadata,
    ident("id", primary_key=True),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(50), nullable=False),
    Column("digest", String(64), nullable=False),
    document("content"),
    Column("attached_by", String(200), nullable=False),
    moment("created_at"),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
    Index("ix_evidence_version", "model", "version", "kind"),
)

gate_results = Table(
    "gate_results",
    metadata,
    ident("id", primary_key=True),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("evidence_digest", String(64), nullable=False),
    Column("passed", Boolean, nullable=False),
    document("results"),
    moment("created_at"),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
    Index("ix_gate_results_version", "model", "version"),
)

approvals = Table(
    "approvals",
    metadata,
    ident("id", primary_key=True),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("environment", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("evidence_digest", String(64), nullable=False),
    Column("requested_by", String(200), nullable=False),
    moment("requested_at"),
    moment("closed_at", nullable=True),
    moment("expires_at", nullable=True),
    Column("how", String(20), nullable=False),
    ident("event_id", nullable=True),
    ForeignKeyConstraint(
        ["model", "version"], ["versions.model", "versions.version"], onupdate="CASCADE", ondelete="CASCADE"
    ),
    Index("ix_approvals_version", "model", "version", "environment"),
    Index("ix_approvals_state", "state"),
)

decisions = Table(
    "decisions",
    metadata,
    ident("id", primary_key=True),
    Column("approval_id", String(64), ForeignKey("approvals.id", ondelete="CASCADE"), nullable=False),
    Column("principal", String(200), nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("comment", Text, nullable=False),
    moment("decided_at"),
    Index("ix_decisions_approval", "approval_id"),
)

standing_policies = Table(
    "standing_policies",
    metadata,
    ident("id", primary_key=True),
    Column("model", String(256), ForeignKey("models.name", onupdate="CASCADE", ondelete="CASCADE"), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("gates_digest", String(64), nullable=False),
    Column("signed_by", String(200), nullable=False),
    Column("comment", Text, nullable=False),
    moment("signed_at"),
    moment("expires_at"),
    moment("revoked_at", nullable=True),
    Index("ix_standing_policies_model", "model", "environment"),
)
"""An approver's word in advance: versions of an automatic retrain that pass these very gates are approved."""
