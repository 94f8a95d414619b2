"""From an address to a store that can be read."""

from pathlib import Path

from modelyard.client.exchange.database import DatabaseSource
from modelyard.client.exchange.files import Files
from modelyard.client.exchange.folder import FolderSource
from modelyard.client.exchange.records import Source
from modelyard.client.exchange.rest import MlflowRest
from modelyard.client.exchange.server import ServerSource
from modelyard.domain.errors import Invalid


def open_source(uri: str, artifacts: Path | None = None) -> tuple[Source, Files]:
    """The store at a tracking server's URL, a database URL, or a `mlruns` folder (or SQLite file).

    Raises Invalid for anything else, Unavailable when it cannot be reached.
    """
    if uri.startswith(("http://", "https://")):
        rest = MlflowRest(uri)
        return ServerSource(rest), Files(rest=rest)
    if uri.startswith(("sqlite:", "postgresql:", "postgresql+", "postgres:")):
        return DatabaseSource(uri.replace("postgres:", "postgresql:", 1)), Files(root=artifacts)
    place = Path(uri.removeprefix("file://"))
    if place.is_dir():
        return FolderSource(place), Files(root=artifacts)
    if place.is_file():
        return DatabaseSource(f"sqlite:///{place}"), Files(root=artifacts)
    raise Invalid(
        f"{uri!r} is no MLflow store.",
        remedy="Name a server (http://host:5000), a database (sqlite:///mlflow.db, postgresql://...) or a folder.",
    )
