"""`modelyard build-image`: a container build of one version, with its Kubernetes, KServe and Helm files."""

from pathlib import Path

import click
import msgspec

from modelyard.cli.approve import split_reference
from modelyard.cli.context import client
from modelyard.client.api import path
from modelyard.domain.errors import Conflict


@click.command("build-image")
@click.argument("reference", metavar="MODEL/VERSION")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The folder to write; image-MODEL-VERSION by default."
)
@click.option("--image", help="The image's name in the manifests; MODEL:VERSION by default.")
def build_image(reference: str, output: Path | None, image: str | None) -> None:
    """Write a container build of a version: locked, not root, read-only, with a health check. No engine is needed."""
    from modelyard.client.hub import ClientHub  # late: --help needs none of these
    from modelyard.deliver.deployments.image import Built, python_of, write

    model, version = split_reference(reference)
    found = client().call("GET", path("models", model, "versions", version))
    number = found["version"]
    folder = output or Path(f"image-{model}-{number}")
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"The folder {folder} is not empty.", remedy="Name another: --output FOLDER")
    ClientHub(client()).download_version(model, number, found["files"], folder / "model")
    needs = folder / "model" / "requirements.txt"
    built = Built(model, number, found["digest"], python_of(folder / "model"), image or "")
    built = Built(built.model, built.version, built.digest, built.python, image or f"{built.label}:{number}")
    write(folder, built, needs.read_text() if needs.exists() else "")
    manifest = {"model": model, "version": number, "digest": found["digest"]}
    manifest["files"] = {item["path"]: item["digest"] for item in found["files"]}
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    click.echo(f"{folder}: build it with: docker build -t {built.image} {folder}")
    click.echo("Who may ask: kubectl create secret generic " + f"{built.label}-tokens --from-literal=digests=SHA256")
