"""What `modelyard monitor` fetches: a version's reference, its log, what was judged; and the judgement of it."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from modelyard.cli.context import client, home, project_dir
from modelyard.client.api import path
from modelyard.deliver.deployments import places
from modelyard.deliver.monitoring import batch_answers, cells, comparison, data_quality, first_window, monitor, tables
from modelyard.deliver.monitoring import watch as watches
from modelyard.deliver.monitoring.cells import Cells
from modelyard.deliver.monitoring.columns import as_arrow
from modelyard.deliver.monitoring.explanations import Explained, Predict, Ranking, compare, explain_reference
from modelyard.deliver.monitoring.kinds import DRIFT, QUALITY, STREAM
from modelyard.deliver.monitoring.watch import Watch
from modelyard.deliver.serving import ground_truth, log_reader, parsed
from modelyard.domain.contracts import Constraint
from modelyard.domain.errors import Conflict, Invalid, ModelyardError, NotFound
from modelyard.domain.monitors import Explanations, Monitor
from modelyard.domain.sections import seconds
from modelyard.kit.clock import now_ms
from modelyard.kit.files import atomic_write

MOST_PAST = 500
FOREVER = 2**62


@dataclass
class Watching:
    """A version's watch, with where its endpoint's log lies."""

    watch: Watch
    folder: Path
    signature: Any
    reference: str
    model: Path
    """The folder of the served version's files."""
    since: int = 0
    """Rows up to this moment (ms) are passed over: a person asked for a new first window."""


def evaluate(model: str, environment: str) -> list[dict[str, Any]]:
    """What the monitors say of the new windows of the version that serves now."""
    held = watch(model, environment)
    judged = [item for item in held.watch.past if item["kind"] == DRIFT and item["version"] == held.watch.version]
    spans = {(item["window_start"], item["window_end"]) for item in judged}
    after = max((end for _, end in spans), default=0)
    return [result.as_wire() for result in _judged(held, after, FOREVER, held.since, spans)]


def backfill(model: str, environment: str, since: int, until: int) -> list[dict[str, Any]]:
    """What the monitors say of every window of the serving version between two moments, judged before or not."""
    held = watch(model, environment)
    held.watch.past = []
    return [result.as_wire() for result in _judged(held, since, until, max(since, held.since))]


def evaluate_batch(model: str, environment: str, files: Path) -> list[dict[str, Any]]:
    """What the monitors say of files that `modelyard predict` wrote, taken as one window: a file or a folder."""
    held = watch(model, environment)
    table = batch_answers.answered(tables.open_table(files), held.watch.classes)
    parts = sorted(files.glob("**/*.parquet")) if files.is_dir() else [files]
    times = [int(part.stat().st_mtime * 1000) for part in parts]
    return [result.as_wire() for result in monitor.judge_batch(held.watch, table, min(times), max(times))]


def _judged(
    held: Watching, after: int, until: int, labels_after: int, seen: Collection[tuple[int, int]] = ()
) -> list[monitor.Result]:
    """Windows of predictions that end after `after`, of labels later than `labels_after`; all by `until`."""
    made = counted(held)
    version_cells = [cell for cell in made.done if cell.version == held.watch.version]
    found: list[monitor.Result] = []
    for window in made.windows(_cells_a_window(held.watch.declared), held.watch.version, after, seen):
        if window.end <= until:
            found += monitor.judge_window(held.watch, window, version_cells)
    judged = [result for result in found if result.kind == DRIFT]
    if judged and held.watch.declared.explanations is not None:
        found.append(_explained(held, held.watch.declared.explanations, judged[-1]))
    labels = ground_truth.newest(held.folder)
    streamed = held.watch.declared.streams
    logged = log_reader.read(held.folder, held.signature, held.since or None) if labels or streamed else None
    if logged is not None and labels:
        logged = ground_truth.join(logged, labels)
    if logged is not None and streamed:
        told = monitor.judge_streams(held.watch, logged, _streamed_until(held))
        found += [told] if told is not None else []
    if logged is not None and labels:
        logged = logged.slice(int((logged.column("time_ms").to_numpy() <= labels_after).sum()))
        found += [item for item in monitor.judge_labels(held.watch, logged) if item.window_end <= until]
        if not held.watch.registered and held.watch.baseline:
            first_window.keep_evaluation(held.folder, held.watch.version, held.since, held.watch.baseline)
    return found


def _streamed_until(held: Watching) -> int:
    """The last row that the streams were judged with."""
    known = (held.watch.past, STREAM, held.watch.version)
    return max((item["window_end"] for item in known[0] if (item["kind"], item["version"]) == known[1:]), default=0)


def _explained(held: Watching, declared: Explanations, judged: monitor.Result) -> monitor.Result:
    """What the model looks at in the newest window: one window a run, since explaining costs predictions."""
    try:
        predict = _asked(held.model)
        return monitor.judge_explanations(held.watch, judged, _ranking(held, declared, judged, predict))
    except ModelyardError as error:
        return monitor.unexplained(held.watch, judged, error)


def _asked(model: Path) -> Predict:
    """The served model as a function of columns. Raises Invalid and MissingExtra, which say what it lacks."""
    from modelyard.deliver.serving import loading  # late: the model's own libraries come with it

    loaded = loading.load(model)

    def predict(columns: dict[str, list[Any]]) -> Any:
        try:
            return parsed.plain(loaded.predict(columns))
        except ModelyardError:
            raise
        except Exception as error:  # the model's own code, which may raise anything
            raise Invalid(
                f"The model in {model} could not answer: {type(error).__name__}: {error}.",
                remedy="Install here what its requirements.txt names, in the versions it names.",
            ) from error

    return predict


def _ranking(held: Watching, declared: Explanations, judged: monitor.Result, predict: Predict) -> Ranking:
    """The attributions of a window's rows against the reference's."""
    import pyarrow.compute as pc  # late: only explanations need it

    logged = log_reader.read(held.folder, held.signature, judged.window_start)
    rows = logged.filter((pc.field("version") == held.watch.version) & (pc.field("time_ms") <= judged.window_end))
    live = {name: rows.column(f"{cells.PREFIX}{name}").to_pylist() for name in held.signature.names}
    before = {name: as_arrow(held.watch.table.columns[name]).to_pylist() for name in held.signature.names}
    known = _explained_reference(held, declared.rows, lambda: explain_reference(predict, before, declared.rows))
    return compare(predict, before, known, live, declared.rows, declared.min_ndcg)


def _explained_reference(held: Watching, rows: int, make: Callable[[], Explained]) -> Explained:
    """The reference's explanation; made once for a version and a number of rows."""
    name = hashlib.sha256(f"{held.reference} {held.model.name} {rows}".encode()).hexdigest()[:16]
    kept = held.folder / "cells" / f"{name}.explained.json"
    try:
        return msgspec.json.decode(kept.read_bytes(), type=Explained)
    except (OSError, msgspec.DecodeError):
        made = make()
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, msgspec.json.encode(made))
        return made


def _cells_a_window(declared: Monitor) -> int:
    window = declared.window
    if window.slide is None:
        return 1
    if window.rows is not None:
        return window.rows // int(window.slide)
    return max(1, round(seconds(window.time or "1h") / seconds(str(window.slide))))


def counted(held: Watching) -> Cells:
    """The log's cells, with every new row counted and kept."""
    import pyarrow.compute as pc  # late: see `_ranking`

    layout = held.watch.reference.layout
    declared = held.watch.declared.window
    name = hashlib.sha256(f"{held.reference} {declared}".encode()).hexdigest()[:16]
    made = Cells(held.folder / "cells" / f"{name}.zz", layout, declared)
    for segment, sealed, table in log_reader.segments(held.folder, held.signature, made.sealed):
        fresh = table.filter(pc.field("time_ms") > held.since)
        made.add(held.watch.reference, segment, fresh, sealed)
    made.close(now_ms())
    made.save()
    return made


def newest_window(
    model: str, environment: str, columns_share: float, constraints: Mapping[str, Constraint] | None
) -> comparison.Comparison:
    """The comparison of the newest rows of the live log, as many as a window has, with the reference."""
    held = watch(model, environment)
    logged = log_reader.read(held.folder, held.signature, held.since or None)
    rows = held.watch.declared.window.rows or logged.num_rows
    newest = tables.MemoryTable(cells.inputs(logged.slice(max(0, logged.num_rows - rows))))
    if not newest.rows:
        raise Conflict(f"{environment}/{model} has logged no prediction yet.", remedy="Send some requests first.")
    held.watch.reference.thresholds = held.watch.thresholds(newest.rows)
    promised = constraints or held.watch.constraints
    found = comparison.compare_prepared(held.watch.reference, newest, held.watch.table.rows, columns_share, promised)
    judged = [item["result"] for item in held.watch.past if item["kind"] == QUALITY]
    return replace(found, labelled=judged[0] if judged else None)


def watch(model: str, environment: str) -> Watching:
    """The watch over the version that serves at an endpoint. Raises Conflict, NotFound, first_window.NotYet."""
    monitored = declared(model)
    where = path("environments", environment, "endpoints", model)
    live = client().call("GET", where)["deployments"].get("live")
    if live is None:
        raise Conflict(f"Nothing serves at {environment}/{model}.", remedy="Deploy a version first.")
    version = live["version"]
    details = client().call("GET", path("models", model, "versions", version))
    baseline = next((item["content"] for item in details["evidence"] if item["kind"] == "evaluation"), {})
    folder = places.predictions(home(), environment, model)
    folder.mkdir(parents=True, exist_ok=True)
    files = places.models(home(), environment) / live["digest"]
    signature = log_reader.signature_of(files / "MLmodel")
    settings = client().call("GET", "/api/v1/project")["models"][model]
    past = client().call("GET", where + "/monitor-results", query={"limit": MOST_PAST})["results"]
    reference, since = baseline.get("reference"), 0
    if reference is not None:
        rows = _reference(reference)
    else:
        since = client().call("GET", where + "/baseline")["since"]
        rows = first_window.rows(folder, signature, version, monitored.window, since)
        ours = "measured_by" not in baseline  # what a stock client's run measured may be of other answers than these
        baseline = (ours and baseline) or first_window.evaluation(folder, version, since)
    made = watches.prepare(
        monitored,
        version,
        rows,
        baseline,
        task=settings["task"],
        primary=settings["primary_metric"],
        protected=settings["protected"],
        constraints=data_quality.read(project_dir() / monitored.constraints) if monitored.constraints else None,
        past=past,
        classes=signature.classes,
        registered=reference is not None,
    )
    return Watching(made, folder, signature, reference or f"v{version}'s own since {since}", files, since)


def declared(model: str) -> Monitor:
    """The monitor that the project declares for a model. Raises NotFound."""
    found = client().call("GET", "/api/v1/project")["models"].get(model)
    if found is None or found["monitor"] is None:
        raise NotFound(f"{model} declares no monitor.", remedy=f"Add [models.{model}.monitor] to modelyard.toml.")
    return msgspec.convert(found["monitor"], Monitor)


def _reference(artifact: str) -> Any:
    """The reference window as an Arrow table; downloaded once, kept in the yard's cache."""
    import pyarrow.parquet as pq

    kept: Path = home() / "cache" / "references" / f"{hashlib.sha256(artifact.encode()).hexdigest()}.parquet"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(".part")
        temporary.write_bytes(client().download(f"/api/v1/artifacts/{quote(artifact)}"))
        temporary.rename(kept)
    return pq.read_table(kept)
