"""The end of a pipeline run: the model becomes a version, with its evaluation and its reference window."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.build.pipelines import curves, model_format, tasks
from modelyard.build.pipelines.evaluation import Evaluation, compare_on_same_rows
from modelyard.build.pipelines.hub import Hub, Place
from modelyard.domain.errors import ConfigError, Invalid
from modelyard.domain.metrics import PRIMARY, lower_is_better

EXAMPLE_ROWS = 5
MODEL_NAME = "model"
REFERENCE = "reference/reference.parquet"
PLOTS = "plots"
FORGOTTEN = "forgotten"
"""The metric that a gate on old rows looks at: how much worse than the champion there."""


@dataclass(frozen=True)
class Request:
    """All that one call of `yard.register` stands for."""

    model_name: str
    model: Any
    evaluation: Evaluation | None
    reference: Any
    old: Any
    pipeline: str
    pipeline_run_id: str
    params: dict[str, str]
    metrics: dict[str, float]
    code: dict[str, Any]
    cause: str | None
    datasets: list[dict[str, Any]]
    onnx_within: float | None = None
    answers: str = ""


def register(request: Request, hub: Hub) -> dict[str, Any]:
    """The new version's summary. The run, its files, the version and its evidence are recorded in that order, so that
    a crash in between leaves an unregistered model and never a version without files.
    """
    evaluation = request.evaluation
    if evaluation is not None and not isinstance(evaluation, Evaluation):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid("yard.register(evaluation=...) takes a yard.Evaluation.", remedy="Use yard.evaluate(...).")
    _check_gates(request, hub)
    evaluation = _with_champion(request, hub) if evaluation is not None else None
    metrics = {**request.metrics, **(evaluation.metrics if evaluation else {})}
    run = hub.create_run(
        request.model_name,
        request.pipeline,
        request.pipeline_run_id,
        request.params,
        metrics,
        {"model": request.model_name},
        request.datasets,
    )
    try:
        made = _fill_and_register(request, evaluation, run, hub)
    except BaseException:  # whatever stops it, also Ctrl-C: the run has ended
        hub.end_run(run.id, "FAILED")
        raise
    hub.end_run(run.id, "FINISHED")
    return made


def _fill_and_register(request: Request, evaluation: Evaluation | None, run: Place, hub: Hub) -> dict[str, Any]:
    model, onnx = _upload(request, evaluation, run, hub)
    body: dict[str, Any] = {
        "source": f"models:/{model.id}",
        "run_id": run.id,
        "model_id": model.id,
        "pipeline_run_id": request.pipeline_run_id,
        "lineage": {"pipeline": request.pipeline, "params": request.params, "code": request.code, **onnx},
        "cause": request.cause,
    }
    if evaluation is not None:
        reference = f"{run.artifact_root}/{REFERENCE}" if request.reference is not None else None
        body["evaluation"] = {**evaluation.as_evidence(), "reference": reference}
    return {**hub.register_version(request.model_name, body), **onnx}


def _check_gates(request: Request, hub: Hub) -> None:
    """Raise ConfigError when a gate asks for a metric that the evaluation does not have: it could never pass."""
    model, held = request.model_name, set(request.evaluation.metrics if request.evaluation is not None else {})
    held |= {FORGOTTEN} if request.old is not None else set()
    for metric in hub.gated_metrics(model):
        if metric not in held:
            raise ConfigError(
                f"modelyard.toml: models.{model}.gates: the evaluation has no metric {metric!r}.",
                remedy=f"It has: {', '.join(sorted(held)) or 'none'}. Correct the gate, or log the metric"
                + (": yard.register(..., old=rows of an earlier time)." if metric == FORGOTTEN else "."),
            )


def _upload(request: Request, evaluation: Evaluation | None, run: Place, hub: Hub) -> tuple[Place, dict[str, str]]:
    """(the logged model, what is to be told of its ONNX twin where one was asked for)."""
    with tempfile.TemporaryDirectory(prefix="modelyard-") as name:
        folder = Path(name)
        features = evaluation.how["features"] if evaluation else None
        example = _example(request, features)
        onnx = _save(request, folder / "model", example)
        if request.reference is not None:
            target = folder / "run" / REFERENCE
            target.parent.mkdir(parents=True)
            _write_reference(request, evaluation, target)
        if evaluation is not None:
            (folder / "run").mkdir(exist_ok=True)
            (folder / "run" / "evaluation.json").write_text(json.dumps(evaluation.as_evidence(), indent=1))
            _draw(evaluation, folder / "run" / PLOTS)
        model = hub.create_logged_model(run.id, MODEL_NAME)
        hub.upload_folder(folder / "model", model.artifact_root)
        if (folder / "run").exists():
            hub.upload_folder(folder / "run", run.artifact_root)
    return model, onnx


def _save(request: Request, folder: Path, example: Any) -> dict[str, str]:
    """Write the model, with its ONNX twin where one was asked for and answers alike; what is to be told of that."""
    if request.onnx_within is None:
        model_format.save(request.model, folder, example, answers=request.answers)
        return {}
    from modelyard.build.pipelines import onnx_twin  # late: an extra

    function = model_format.served_function(request.model, request.answers)
    twin, why = onnx_twin.of(request.model, function, request.reference[list(example.columns)], request.onnx_within)
    also = () if twin is None else (twin.requirement,)
    model_format.save(request.model, folder, example, also, request.answers)
    if twin is not None:
        twin.write(folder)
    return {"onnx": why}


def _draw(evaluation: Evaluation, folder: Path) -> None:
    """The evaluation's plots as SVG files, where matplotlib is installed."""
    if evaluation.curves and find_spec("matplotlib") is not None:
        folder.mkdir()
        for name, text in curves.plots(evaluation.curves).items():
            (folder / f"{name}.svg").write_text(text)


def _example(request: Request, features: list[str] | None) -> Any:
    if request.reference is None:
        raise Invalid(
            "yard.register needs reference=: the labelled rows that the model was evaluated on.",
            remedy="Pass the test frame; monitors compare live data with it.",
        )
    frame = request.reference
    return frame[features or list(frame.columns)].head(EXAMPLE_ROWS)


def _write_reference(request: Request, evaluation: Evaluation | None, target: Path) -> None:
    """The reference window as Parquet: input columns, `prediction`, `label`; of several classes whose probabilities
    are answered also `probabilities` and `prediction.confidence`.
    """
    frame = request.reference
    if evaluation is not None:
        features = evaluation.how["features"]
        task = evaluation.how.get("task", "binary")
        labelled = tasks.truth_of(task, request.model, frame[evaluation.how["label"]])
        prediction = tasks.predicted(task, request.model, frame[features])
        rows = frame[features]
        frame = rows.assign(prediction=prediction, label=labelled)
        if task == "multiclass" and request.answers == "probabilities":
            chances = request.model.predict_proba(rows)
            frame = frame.assign(**{"probabilities": list(chances), "prediction.confidence": chances.max(axis=1)})
    frame.to_parquet(target, index=False)


def _with_champion(request: Request, hub: Hub) -> Evaluation:
    """The evaluation, with the champion measured on the same rows when there is one."""
    assert request.evaluation is not None, "called for an evaluation only"
    champion = hub.champion(request.model_name)
    if champion is None or request.reference is None:
        return request.evaluation if request.old is None else _with(request.evaluation, None, 0.0)
    with tempfile.TemporaryDirectory(prefix="modelyard-") as name:
        hub.download_version(request.model_name, champion["version"], champion["files"], Path(name))
        held = model_format.load(Path(name))
    how = request.evaluation.how
    compared = {
        "version": champion["version"],
        **compare_on_same_rows(request.model, held, request.reference, how),
    }
    if request.old is None:
        return replace(request.evaluation, champion=compared)
    before = compare_on_same_rows(request.model, held, request.old, how)
    compared["old"] = {"rows": len(request.old), **before}
    return _with(request.evaluation, compared, _forgotten(how.get("task", "binary"), before["difference"]))


def _with(evaluation: Evaluation, champion: dict[str, Any] | None, forgotten: float) -> Evaluation:
    return replace(evaluation, champion=champion, metrics={**evaluation.metrics, FORGOTTEN: forgotten})


def _forgotten(task: str, difference: Mapping[str, Any]) -> float:
    """How much worse the primary metric is than the champion's on the old rows; negative when it is better."""
    metric = PRIMARY.get(task, next(iter(difference)))
    value = float(difference[metric if metric in difference else next(iter(difference))]["value"])
    return value if lower_is_better(metric) else -value
