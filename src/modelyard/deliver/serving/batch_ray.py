"""Batch prediction on a Ray cluster: the parts that each process of this machine would take are tasks.

The model's files travel through the object store. Files that are not in a bucket are read and written by the nodes
themselves, so these must see this machine's disk; a node that does not says so.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.deliver.serving.batch import Counted, Work, predict_all
from modelyard.deliver.serving.batch_files import LocalFiles
from modelyard.deliver.serving.batch_rows import FileRows
from modelyard.domain.errors import Invalid, MissingExtra, ModelyardError, Unavailable
from modelyard.kit import ray_cluster
from modelyard.kit.ray_cluster import NODE_DEATHS, ClusterAway, Mark

MOST_TASKS = 1000
MARK = ".modelyard-cluster"


class Answer(NamedTuple):
    """What a task returns: what each part has, or why there are none."""

    parts: list[Counted]
    message: str = ""
    remedy: str = ""


def predicted(work: list[Work], address: str | None, most: int | None = None) -> Iterator[Counted]:
    """What each part has as it is finished, at most `most` tasks at once; the first failure ends the run.

    address: of the cluster; None starts one on this machine for the run. Raises Invalid, MissingExtra, Unavailable.
    """
    if not work:
        return
    ray = _joined(address)
    marks: list[Mark] = []
    try:
        work = [_placed(item) for item in work]
        places = {place for item in work for place in (item.outputs, item.aside)}
        marks = [_marked(place.root) for place in places if isinstance(place, LocalFiles)]
        yield from _run(ray, work, marks, most or MOST_TASKS)
    finally:
        ray.shutdown()  # what still runs is stopped with it
        for mark in marks:
            mark.file.unlink(missing_ok=True)


def _joined(address: str | None) -> Any:
    try:
        return ray_cluster.join(address)
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", "ray", "Batch prediction on Ray") from error
    except ClusterAway as error:
        raise Unavailable(str(error), remedy="See whether the cluster runs: ray status") from error


def _placed(work: Work) -> Work:
    """The work with whole paths: a node has another working directory."""
    inputs, outputs = _local(work), work.outputs
    if inputs is not None:
        work = replace(work, inputs=FileRows(_whole(inputs)))
    if isinstance(work.aside, LocalFiles):
        work = replace(work, aside=_whole(work.aside))
    return replace(work, outputs=_whole(outputs)) if isinstance(outputs, LocalFiles) else work


def _local(work: Work) -> LocalFiles | None:
    """The folders that the work's inputs lie in; None when they are elsewhere."""
    files = work.inputs.files if isinstance(work.inputs, FileRows) else None
    return files if isinstance(files, LocalFiles) else None


def _whole(files: LocalFiles) -> LocalFiles:
    return replace(files, root=files.root.resolve())


def _marked(root: Path) -> Mark:
    root.mkdir(parents=True, exist_ok=True)
    return Mark(root / MARK)


def _run(ray: Any, work: list[Work], marks: list[Mark], most: int) -> Iterator[Counted]:
    model = Path(work[0].model)
    files = ray.put({str(file.relative_to(model)): file.read_bytes() for file in model.rglob("*") if file.is_file()})
    task = ray.remote(_predict).options(num_cpus=1, max_retries=NODE_DEATHS, scheduling_strategy="SPREAD")
    waiting: list[Any] = []
    rest = iter(work)
    while True:
        for item in rest:
            waiting.append(task.remote(item, files, marks))
            if len(waiting) >= most:
                break
        if not waiting:
            return
        ready, waiting = ray.wait(waiting, num_returns=1)
        try:
            answer: Answer = ray.get(ready[0])
        except ray.exceptions.RayError as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            remedy = "A worker died again and again, perhaps out of memory. Run again to go on from here."
            raise Unavailable(f"A part was lost on the Ray cluster: {words}", remedy=remedy) from error
        if answer.message:
            raise Invalid(answer.message, remedy=answer.remedy)
        yield from answer.parts


def _predict(work: Work, files: dict[str, bytes], marks: list[Mark]) -> Answer:
    """The task. An error is an answer: raised, Ray would show its inside."""
    unseen = [str(mark.file.parent) for mark in marks if not mark.seen()]
    inputs = _local(work)
    if inputs is not None:
        unseen += [part.source.name for part in work.parts[:1] if not (inputs.root / part.source.name).exists()]
    if unseen:
        remedy = "Put the files on a drive that every node has at the same place, or in a bucket: s3://..."
        return Answer([], f"A node of the Ray cluster does not see {unseen[0]}.", remedy)
    try:
        return Answer(predict_all(replace(work, model=_unpacked(work.model, files))))
    except ModelyardError as error:
        return Answer([], error.message, error.remedy)


_models: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""By the runner's name of a model where this process, which serves one run, unpacked it; it goes with the process."""


def _unpacked(model: str, files: dict[str, bytes]) -> str:
    """A folder of this process with the model's files."""
    if model not in _models:
        folder = tempfile.TemporaryDirectory(prefix="modelyard-model-", ignore_cleanup_errors=True)
        for name, body in files.items():
            target = Path(folder.name) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        _models[model] = folder
    return _models[model].name
