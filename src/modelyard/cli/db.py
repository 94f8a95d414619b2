"""`modelyard db`: the database's schema."""

import click

from modelyard.cli.context import home


def _url(database: str) -> str:
    return database or f"sqlite:///{home() / 'yard.db'}"


@click.group()
def db() -> None:
    """Upgrade the database, or show its schema."""


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
@click.option("--database", default="", envvar="MODELYARD_DATABASE")
def version(database: str) -> None:
    """Show the database's schema and this modelyard's."""
    from modelyard.store import schema  # late: see upgrade
    from modelyard.store.engine import make_engines

    engine, _ = make_engines(_url(database))
    click.echo(f"database: {schema.current(engine) or 'empty'}, modelyard: {schema.HEAD}")
