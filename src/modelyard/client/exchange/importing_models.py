"""The registry's half of an import: models, versions under their own numbers, aliases."""

from modelyard.client.api import Client, path
from modelyard.client.exchange.records import Model, Source, Version, is_elsewhere
from modelyard.client.exchange.reporting import Progress, Report
from modelyard.domain.errors import ModelyardError


class ModelImporter:
    """Brings registered models whose files came with `roots`: {artifact URI there: place here}."""

    def __init__(
        self, source: Source, client: Client, roots: dict[str, str], report: Report, progress: Progress
    ) -> None:
        self._source, self._client, self._report, self._progress = source, client, report, progress
        self._roots = roots
        self._versions: dict[tuple[str, int], Version] = {}

    def run(self, *, partial: bool) -> None:
        """Every model; where `partial`, only versions whose files came, and models that have such."""
        held = [(model, list(self._source.versions(model))) for model in self._source.models()]
        self._versions = {(item.model, item.version): item for _, versions in held for item in versions}
        for model, versions in held:
            self._model(model, versions, partial=partial)

    def _model(self, model: Model, versions: list[Version], *, partial: bool) -> None:
        brought: set[int] = set()
        for version in versions:
            if partial and self._place(version) is None:
                continue
            if not brought:
                self._model_line(model)
            self._report.guarded(f"{model.name} v{version.version}", lambda version=version: self._version(version))
            brought.add(version.version)
            self._progress(f"{model.name}: {len(brought)} versions")
        if not brought and not partial:
            self._model_line(model)
        for alias, number in model.aliases.items():
            if number in brought:
                self._report.guarded(
                    f"alias {alias}", lambda alias=alias, number=number: self._alias(model, alias, number)
                )

    def _alias(self, model: Model, alias: str, number: int) -> None:
        self._client.call("PUT", path("models", model.name, "aliases", alias), body={"version": number})
        self._report.aliases += 1

    def _model_line(self, model: Model) -> None:
        body = {"name": model.name, "description": model.description, "tags": model.tags}
        self._client.call("POST", path("imports", "models"), body=body)
        self._report.models += 1

    def _version(self, version: Version) -> None:
        place = self._place(version)
        if place is None:
            raise ModelyardError(f"its files ({version.source}) belong to no run or logged model that was imported.")
        body = {
            "number": version.version,
            "source": place,
            "run_id": version.run_id,
            "model_id": version.model_id if place.startswith("models:/") else None,
            "description": version.description,
            "tags": version.tags,
            "stage": version.stage,
            "user": version.user,
            "created_at": version.created_at,
        }
        made = self._client.call("POST", path("imports", "models", version.model, "versions"), body=body)
        if made["present"]:
            self._report.versions_present += 1
        else:
            self._report.versions += 1

    def _place(self, version: Version) -> str | None:
        """A version's source in the yard's words: models:/m-..., or runs:/<id>/path."""
        source = version.source.rstrip("/")
        known = set(self._roots.values())
        if version.model_id and f"models:/{version.model_id}" in known:
            return f"models:/{version.model_id}"
        if source.startswith("models:/"):
            name, _, number = source.removeprefix("models:/").rpartition("/")
            copied = self._versions.get((name, int(number))) if number.isdigit() else None
            return self._place(copied) if copied is not None else None
        if source.startswith("runs:/"):
            return source if source.split("/")[1] and "/".join(source.split("/")[:2]) in known else None
        bare = source.removeprefix("file://")
        for root, place in self._roots.items():
            for form in (source, bare):
                if form == root or form.startswith(root + "/"):
                    return place + form[len(root) :]
        return version.source if is_elsewhere(version) else self._by_run(version, bare)

    def _by_run(self, version: Version, source: str) -> str | None:
        """The store was moved since: the part after `<run id>/artifacts` still tells."""
        place = f"runs:/{version.run_id}"
        _, found, rest = source.partition(f"/{version.run_id}/artifacts")
        return place + rest if found and place in self._roots.values() else None
