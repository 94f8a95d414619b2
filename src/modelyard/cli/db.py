"""`modelyard db`: the database's schema, backups, unreferenced content."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from modelyard.cli.context import client, home, running_server
from modelyard.cli.output import json_option, show_json
from modelyard.domain.errors import ConfigError, Conflict, ModelyardError

if TYPE_CHECKING:
    from modelyard.server.backups import Contents


def _url(database: str) -> str:
    return database or f"sqlite:///{home() / 'yard.db'}"


@click.group()
def db() -> None:
    """Upgrade, back up and restore the database, free unreferenced content."""


database_option = click.option(
    "--database", default="", envvar="MODELYARD_DATABASE", help="Database URL; the yard's SQLite by default."
)
artifacts_option = click.option(
    "--artifacts", default="", envvar="MODELYARD_ARTIFACTS", help="s3://bucket/prefix or a folder; the yard's own."
)


@db.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@database_option
@artifacts_option
@click.option(
    "--without-artifacts", is_flag=True, help="Leave them where they are: the store has backups of its own."
)
@click.option("--force", is_flag=True, help="Replace FILE.")
@json_option
def backup(file: Path, database: str, artifacts: str, without_artifacts: bool, force: bool, as_json: bool) -> None:
    """Write the yard into one FILE while it runs: database, artifacts, prediction logs."""
    from modelyard.server import backups  # late: see upgrade
    from modelyard.store.objects.opening import open_objects

    if file.exists() and not force:
        raise Conflict(f"{file} is there already.", remedy="Choose another name, or replace it: --force")
    url = _url(database)
    if not backups.holds_anything(url):
        raise ConfigError(f"There is no yard in {home()}.", remedy="Go to its project, or set MODELYARD_HOME.")
    place = (artifacts or str(home() / "objects")) if without_artifacts else backups.INSIDE
    made = backups.write(file, url, open_objects(artifacts, home()), home(), place)
    _tell("Backed up", made, as_json)
    if made.broken_at is not None:
        click.echo(f"The audit chain is broken at record {made.broken_at}: modelyard audit verify", err=True)
    if made.lost:
        click.echo(f"{len(made.lost)} artifacts were lost before, such as {made.lost[0][:16]}.", err=True)


@db.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@database_option
@artifacts_option
@click.option("--force", is_flag=True, help="Replace the yard that is there.")
@json_option
def restore(file: Path, database: str, artifacts: str, force: bool, as_json: bool) -> None:
    """Make the yard what a backup FILE holds, checked by rows, digests and audit chain first."""
    from modelyard.server import backups  # late: see upgrade
    from modelyard.server.bootstrap import store_credential
    from modelyard.store.objects.opening import open_objects

    if running_server() is not None:
        raise Conflict("The yard's server is running.", remedy="Stop it first.")
    url = _url(database)
    if not force and backups.holds_anything(url):
        raise Conflict(f"There is a yard in {home()} already.", remedy="Keep it, or replace it: --force")
    home().mkdir(parents=True, exist_ok=True, mode=0o700)
    done = backups.restore(file, url, open_objects(artifacts, home()), home())
    store_credential(url, home())
    _tell("Restored", done, as_json)


def _tell(what: str, contents: "Contents", as_json: bool) -> None:
    if as_json:
        show_json(to_builtins(contents))
        return
    place = "with" if contents.artifacts == "inside" else f"and, left in {contents.artifacts},"
    click.echo(f"{what} {sum(contents.rows.values())} rows {place} {contents.blobs} artifacts.")
    click.echo(f"Audit chain: {contents.events} records, the newest {contents.head[:16]}.")


@db.command()
@database_option
def upgrade(database: str) -> None:
    """Bring the database to this modelyard's schema (SQLite is copied first)."""
    from modelyard.store import schema  # late: SQLAlchemy is not needed for --help
    from modelyard.store.engine import make_engines

    url = _url(database)
    engine, _ = make_engines(url)
    before = schema.current(engine)
    if before == schema.HEAD:
        click.echo(f"The schema is current ({schema.HEAD}).")
        return
    if before is not None and engine.dialect.name == "sqlite":
        click.echo(f"Copied to {schema.backup(engine)}")
    schema.upgrade(url)
    click.echo(f"Schema {before or 'empty'} -> {schema.HEAD}.")


@db.command()
@json_option
def collect(as_json: bool) -> None:
    """Free stored content that nothing refers to (done daily by itself)."""
    done = client().call("POST", "/api/v1/storage/collection")
    if as_json:
        show_json(done)
        return
    click.echo(
        f"{done['kept']} blobs kept, {done['binned']} binned, {done['freed']} freed ({done['freed_bytes']} bytes)."
    )
    if done["lost"]:
        raise ModelyardError(
            f"{len(done['lost'])} blobs are referred to but not stored, such as {done['lost'][0]}.",
            remedy="Restore the artifact store from a backup.",
        )


@db.command()
@database_option
def version(database: str) -> None:
    """Show the database's schema and this modelyard's."""
    from modelyard.store import schema  # late: see upgrade
    from modelyard.store.engine import make_engines

    engine, _ = make_engines(_url(database))
    click.echo(f"database: {schema.current(engine) or 'empty'}, modelyard: {schema.HEAD}")
