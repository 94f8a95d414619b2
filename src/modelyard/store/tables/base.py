"""The metadata that all tables share, and the column shapes that recur."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")
"""An integer key that SQLite makes its rowid."""


def moment(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[int]:
    """A time column: milliseconds since the epoch, UTC."""
    return Column(name, BigInteger, nullable=nullable, primary_key=primary_key)


def ident(name: str = "id", **options: Any) -> Column[str]:
    """A 32-hex-character identifier column."""
    return Column(name, String(64), **options)


def document(name: str, *, nullable: bool = False) -> Column[Any]:
    """A JSON column."""
    return Column(name, JSON, nullable=nullable)
