"""`modelyard db`: the database's schema."""

import click

from modelyard.cli.context import client, home
from modelyard.cli.output import json_option, show_json
from modelyard.domain.errors import ModelyardError


def _url(database: str) -> str:
    return database or f"sqlite:///{home() / 'yard.db'}"


@click.group()
def db() -> None:
    """Upgrade the database, show its schema, free unreferenced content."""


@db.command()
@click.option(
    "--database", default="", envvar="MODELYARD_DATABASE", help="Database URL; the yard's SQLite by default."
)
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
@click.option("--database", default="", envvar="MODELYARD_DATABASE")
def version(database: str) -> None:
    """Show the database's schema and this modelyard's."""
    from modelyard.store import schema  # late: see upgrade
    from modelyard.store.engine import make_engines

    engine, _ = make_engines(_url(database))
    click.echo(f"database: {schema.current(engine) or 'empty'}, modelyard: {schema.HEAD}")
