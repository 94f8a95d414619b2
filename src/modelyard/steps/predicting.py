"""Predictions for many rows: of a frame, and of files of any size."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step
from modelyard.build.pipelines.recorder import log_metric
from modelyard.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    import pandas as pd


@step
def predict(model: Any, rows: "pd.DataFrame", task: str | None = None) -> "pd.DataFrame":
    """The rows with a column `prediction`: the second class's probability, the class, or the number."""
    from modelyard.build.pipelines import evaluation, tasks  # late: importing steps must stay light

    columns = evaluation.inputs_of(model, rows, "", None)
    return rows.assign(prediction=tasks.predicted(task or tasks.task_of(model), model, rows[columns]))


@step(cache=False)
def predict_files(model: str, files: str, output: str, workers: int = 0, set_aside: str = "") -> dict[str, Any]:
    """{rows, parts, kept, set_aside}: the files' rows and predictions as Parquet parts in the folder `output`.

    model: a folder with a model, or `environment/endpoint` of this yard, by the version that has its traffic. files:
    CSV or Parquet, a pattern. workers: processes; one for each core by default. set_aside: a folder for rows that do
    not fit the model, as CSV with the reason; without it the first one is an error. Parts that are there from a run
    that was stopped, of the same model and rows, are kept. Raises Invalid, NotFound.
    """
    from modelyard.deliver.serving import batch  # late: see above
    from modelyard.deliver.serving.batch_files import LocalFiles

    folder = Path(model) if (Path(model) / "MLmodel").exists() else _served(model)
    aside = LocalFiles(Path(set_aside)) if set_aside else None
    count = workers or os.cpu_count() or 1
    done = batch.run(folder, files, LocalFiles(Path(output)), count, lambda done, total: None, aside=aside)
    log_metric("predicted_rows", done.rows)
    if aside is not None:
        log_metric("set_aside_rows", done.aside)
    return {"rows": done.rows, "parts": done.parts, "kept": done.kept, "set_aside": done.aside}


def _served(endpoint: str) -> Path:
    """The folder of the model that has an endpoint's traffic on this machine."""
    import msgspec  # late: see above

    from modelyard.deliver.deployments import places

    environment, slash, name = endpoint.partition("/")
    if not slash:
        raise Invalid(
            f"{endpoint!r} is neither a model's folder nor an endpoint.", remedy="Write such as production/churn."
        )
    folder = places.serving(Path(os.environ.get("MODELYARD_HOME") or ".modelyard"), environment)
    try:
        routing = msgspec.json.decode((folder / "routing.json").read_bytes())["endpoints"][name]["routes"]
        workers = msgspec.json.decode((folder / "desired.json").read_bytes())["workers"]
    except (OSError, KeyError) as error:
        raise NotFound(f"Nothing serves at {endpoint} on this machine.", remedy="Deploy a version first.") from error
    most = max(routing, key=lambda target: target["weight"])
    held = next(worker for worker in workers if worker["deployment"] == most["deployment"])
    return Path(held["model_dir"])
