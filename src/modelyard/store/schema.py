"""The schema's version: made at once for a new database, migrated by Alembic for an old one."""

import sqlite3
from pathlib import Path

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from modelyard.domain.errors import ConfigError
from modelyard.kit.clock import now_ms
from modelyard.store.tables import metadata

HEAD = "0001"
"""The newest migration in `migrations/versions`; a test compares it with what Alembic finds there."""
MIGRATIONS = Path(__file__).parent / "migrations"
OURS = ("events", "principals", "tokens")
"""Tables of every schema of ours: what lacks them is another program's database."""


def ensure(engine: Engine, url: str) -> None:
    """Make a new database's tables; upgrade an older SQLite file after a backup; refuse what does not match.

    Raises ConfigError with the command to run.
    """
    found = current(engine)
    if found == HEAD:
        _check_columns(engine)
        return
    if found is None:
        create(engine)
        return
    if found > HEAD:
        raise ConfigError(
            f"The database has schema {found}, newer than this modelyard ({HEAD}).",
            remedy="Upgrade modelyard.",
        )
    if engine.dialect.name != "sqlite":
        raise ConfigError(
            f"The database has schema {found}; this modelyard needs {HEAD}.",
            remedy="Run: modelyard db upgrade",
        )
    backup(engine)
    upgrade(url)


def current(engine: Engine) -> str | None:
    """The schema's revision; None for an empty database.

    Raises ConfigError for one that cannot be used: damaged, another program's, or out of reach.
    """
    try:
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            if not tables:
                return None
            if not tables >= {"alembic_version", *OURS}:
                raise ConfigError(
                    f"The database {_named(engine)} is another program's: it has the table {min(tables)!r}.",
                    remedy="Name an empty database. MLflow's is brought over by: modelyard import mlflow URI",
                )
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        raise _unusable(engine, error) from error


COLUMNS = {
    "sqlite": "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'",
    "postgresql": "SELECT table_name, column_name FROM information_schema.columns "
    "WHERE table_schema = current_schema()",
}


def _check_columns(engine: Engine) -> None:
    """Refuse a database that says it is at HEAD and is not, such as one of an unreleased modelyard."""
    try:
        with engine.connect() as connection:
            held = {tuple(row) for row in connection.execute(text(COLUMNS[engine.dialect.name]))}
    except DBAPIError as error:
        raise _unusable(engine, error) from error
    wanted = {(table.name, column.name) for table in metadata.sorted_tables for column in table.columns}
    missing = sorted(f"{table}.{column}" for table, column in wanted - held)
    if missing:
        raise ConfigError(
            f"The database {_named(engine)} says it has schema {HEAD}, and lacks {', '.join(missing[:3])}.",
            remedy="It was changed by hand, or made by an unreleased modelyard: use that one, or a new folder.",
        )


def _named(engine: Engine) -> str:
    return engine.url.database or "" if engine.dialect.name == "sqlite" else str(engine.url)  # the password is hidden


def _unusable(engine: Engine, error: DBAPIError) -> ConfigError:
    words = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
    remedy = "Check that the server runs and takes this user, host and database."
    if engine.dialect.name == "sqlite":
        remedy = "Check its rights and the disk; bring it back from a backup: modelyard db restore FILE --force"
    return ConfigError(f"The database {_named(engine)} cannot be used: {words}.", remedy=remedy)


def upgrade(url: str) -> None:
    """Bring the database at `url` to HEAD by the migrations."""
    from alembic import command  # late: a start-up with nothing to migrate must not pay for it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, "head")


def backup(engine: Engine) -> Path:
    """A copy of the SQLite file beside it, named by the time."""
    source = Path(engine.url.database or "")
    copy = source.with_name(f"{source.name}.{now_ms()}.backup")
    with sqlite3.connect(source) as old, sqlite3.connect(copy) as new:
        old.backup(new)
    return copy


def create(engine: Engine) -> None:
    """Make the tables of an empty database, at HEAD."""
    with engine.begin() as connection:
        if inspect(connection).has_table("alembic_version"):
            return  # another process was first: both hold the write lock in turn
        metadata.create_all(connection, checkfirst=False)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
