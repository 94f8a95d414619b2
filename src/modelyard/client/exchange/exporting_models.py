"""The registry's half of an export: models, versions under their own numbers, aliases."""

from modelyard.client.exchange.records import Json, Model, Source, Version, is_elsewhere
from modelyard.client.exchange.reporting import Progress, Report
from modelyard.client.exchange.rest import MlflowRest
from modelyard.domain.errors import ModelyardError, NotFound


class ModelExporter:
    """Copies registered models whose files went with `runs` and `models`: {id here: what it is over there}."""

    def __init__(
        self,
        source: Source,
        target: MlflowRest,
        runs: dict[str, Json],
        models: dict[str, Json],
        report: Report,
        progress: Progress,
    ) -> None:
        self._source, self._target, self._report, self._progress = source, target, report, progress
        self._runs, self._models = runs, models

    def run(self, *, partial: bool) -> None:
        """Every model; where `partial`, only versions whose files went, and models that have such."""
        for model in self._source.models():
            self._report.guarded(f"model {model.name}", lambda model=model: self._model(model, partial=partial))

    def _model(self, model: Model, *, partial: bool) -> None:
        versions = [item for item in self._source.versions(model) if not partial or self._place(item)]
        if partial and not versions:
            return
        try:
            self._target.get("registered-models/get", name=model.name)
        except NotFound:
            tags = [{"key": key, "value": value} for key, value in model.tags.items()]
            body = {"name": model.name, "description": model.description, "tags": tags}
            self._target.post("registered-models/create", body)
        self._report.models += 1
        next_number = 1
        for version in versions:
            self._report.guarded(
                f"{model.name} v{version.version}", lambda v=version, n=next_number: self._version(v, n)
            )
            next_number = version.version + 1
            self._progress(f"{model.name}: v{version.version}")
        for alias, number in model.aliases.items():
            self._report.guarded(f"alias {alias}", lambda alias=alias, n=number: self._alias(model.name, alias, n))

    def _alias(self, name: str, alias: str, number: int) -> None:
        self._target.post("registered-models/alias", {"name": name, "alias": alias, "version": str(number)})
        self._report.aliases += 1

    def _version(self, version: Version, next_number: int) -> None:
        """A version under its own number: numbers that were deleted here are used up over there, too."""
        try:
            self._target.get("model-versions/get", name=version.model, version=str(version.version))
        except NotFound:
            pass
        else:
            self._report.versions_present += 1
            return
        place = self._place(version)
        if place is None:
            raise ModelyardError(f"its files ({version.source}) belong to no run or logged model that was exported.")
        tags = [{"key": key, "value": value} for key, value in version.tags.items()]
        body: Json = {"name": version.model, "description": version.description, "tags": tags, **place}
        made = self._target.post("model-versions/create", body)["model_version"]
        while int(made["version"]) < version.version:
            gone = {"name": version.model, "version": str(made["version"])}
            self._target.post("model-versions/delete", gone, method="DELETE")
            made = self._target.post("model-versions/create", body)["model_version"]
        if int(made["version"]) != version.version:
            raise ModelyardError(f"it became v{made['version']} over there: the name was in use.")
        if version.stage not in ("", "None"):
            moved = {"name": version.model, "version": str(version.version), "stage": version.stage}
            self._target.post("model-versions/transition-stage", {**moved, "archive_existing_versions": False})
        self._report.versions += 1

    def _place(self, version: Version) -> Json | None:
        """Where a version's files are over there: {source, run_id, model_id}."""
        run = self._runs.get(version.run_id or "")
        place: Json = {"run_id": run["run_id"]} if run else {}
        model = self._models.get(version.model_id or "")
        if model is not None:
            return {**place, "source": f"models:/{model['model_id']}", "model_id": model["model_id"]}
        if run is not None and version.source.startswith("runs:/"):
            inner = version.source.removeprefix("runs:/").partition("/")[2]
            return {**place, "source": f"{run['artifact_uri']}/{inner}"}
        return {**place, "source": version.source} if is_elsewhere(version) else None
