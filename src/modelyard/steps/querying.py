"""Reading the answer of a query: any database that SQLAlchemy knows, and DuckDB over files."""

import os
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step
from modelyard.domain.errors import Invalid, MissingExtra
from modelyard.steps.reading import record

if TYPE_CHECKING:
    import pandas as pd

DUCKDB = "duckdb://"


def query(
    url: str, sql: str, params: dict[str, Any] | None = None, version: str | None = None, name: str = "query"
) -> "pd.DataFrame":
    """The rows that a database answers with.

    url: SQLAlchemy's, such as `postgresql+psycopg://host/db`; `${NAME}` stands for an environment variable, so that
    no password is written down. `duckdb://` (in memory) or `duckdb:///file.db` needs the extra `duckdb`; its SQL may
    name files. params: values for `:name` (in DuckDB `$name`) in the SQL. version: the rows are asked for again only
    when it, the SQL or the params change; without one they are asked for at each run. Raises Invalid.
    """
    if _password(url):
        raise Invalid(
            "The URL holds a password, and what a step is given is recorded with its run.",
            remedy="Put it into an environment variable: postgresql+psycopg://me:${DB_PASSWORD}@host/db",
        )
    given = (url, sql, params or {}, name)
    return ask(*given) if version is None else ask_once(*given, version)


@step(cache=False)
def ask(url: str, sql: str, params: dict[str, Any], name: str) -> "pd.DataFrame":
    """What a database answers now."""
    return _answer(url, sql, params, name)


@step
def ask_once(url: str, sql: str, params: dict[str, Any], name: str, version: str) -> "pd.DataFrame":
    """What a database answered for this version."""
    return _answer(url, sql, params, name)


def _password(url: str) -> bool:
    user = url.partition("://")[2].rpartition("@")[0]
    return ":" in user and not user.partition(":")[2].startswith("${")


def _answer(url: str, sql: str, params: dict[str, Any], name: str) -> "pd.DataFrame":
    filled = os.path.expandvars(url)
    if "${" in filled:
        raise Invalid(f"{url} names an environment variable that is not set.", remedy="Set it where the run starts.")
    frame = (_duckdb if filled.startswith(DUCKDB) else _sqlalchemy)(filled, sql, params)
    if not len(frame):
        raise Invalid(f"The query {name!r} answers no rows.", remedy="Check its conditions.")
    record(frame, name, f"{url}: {sql}")
    return frame


def _sqlalchemy(url: str, sql: str, params: dict[str, Any]) -> "pd.DataFrame":
    import pandas as pd  # late: importing steps must not load it
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(url)
        try:
            with engine.connect() as conn:
                return pd.read_sql(text(sql), conn, params=params)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise Invalid(
            f"The database needs the driver {error.name}, which is not installed.",
            remedy=f"Install it: pip install {error.name}",
        ) from error
    except (SQLAlchemyError, pd.errors.DatabaseError) as error:
        said = getattr(error.__cause__ or error, "orig", None) or error
        raise Invalid(
            f"The query failed: {str(said).splitlines()[0]}", remedy="Check the URL and the SQL."
        ) from error


def _duckdb(url: str, sql: str, params: dict[str, Any]) -> "pd.DataFrame":
    try:
        import duckdb  # late: an extra
    except ImportError as error:
        raise MissingExtra("duckdb", "duckdb", "Asking DuckDB") from error
    path = url.removeprefix(DUCKDB).removeprefix("/")
    try:
        with duckdb.connect(path or ":memory:", read_only=bool(path)) as conn:
            return conn.execute(sql, params or None).df()
    except duckdb.Error as error:
        raise Invalid(
            f"The query failed: {str(error).splitlines()[0]}", remedy="Check the file and the SQL."
        ) from error
