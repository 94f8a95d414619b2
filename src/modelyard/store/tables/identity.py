"""Principals, their roles, and the digests of their tokens."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table

from modelyard.store.tables.base import document, ident, metadata, moment

principals = Table(
    "principals",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(20), nullable=False),
    document("roles"),
    Column("behind", String(200), nullable=True),
    moment("created_at"),
    Column("created_by", String(200), nullable=False),
    Column("disabled", Boolean, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    ident("id", primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("principal", String(200), ForeignKey("principals.name"), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("label", String(200), nullable=False),
    ident("opened_by", nullable=True),
    moment("created_at"),
    moment("expires_at", nullable=True),
    moment("used_at", nullable=True),
    moment("revoked_at", nullable=True),
    Index("ix_tokens_principal", "principal"),
)
"""`opened_by` is the token with which a console session was opened; the session ends with it."""
