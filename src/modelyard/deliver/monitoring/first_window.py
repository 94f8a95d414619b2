"""What a version is compared with that was registered without a reference window: its own first window here.

Both halves are kept beside the endpoint's log, which may forget: the rows once there are enough of them, and what
they were worth once their labels are known. A person may ask for a new first window: then rows up to that moment are
passed over (`since`, in ms; 0 without it).
"""

from pathlib import Path
from typing import Any

import msgspec

from modelyard.deliver.monitoring import cells, monitor
from modelyard.deliver.monitoring.watch import CONFIDENCE, PREDICTION
from modelyard.deliver.serving import log_reader
from modelyard.deliver.serving.signature import Signature
from modelyard.domain.errors import Conflict
from modelyard.domain.monitors import Window
from modelyard.kit.clock import iso
from modelyard.kit.files import atomic_write

FOLDER = "first-window"


class NotYet(Conflict):
    """The version has not answered a whole window."""


def rows(folder: Path, signature: Signature, version: int, declared: Window, since: int = 0) -> Any:
    """The version's first complete window as an Arrow table of inputs and `prediction`, the same one ever after.

    folder: of the endpoint's log. Raises NotYet.
    """
    import pyarrow as pa  # late: only monitor runs need it
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    kept = _kept(folder, version, since).with_suffix(".parquet")
    if kept.exists():
        return pq.read_table(kept)
    logged = log_reader.read(folder, signature, since or None)
    logged = logged.filter((pc.field("version") == version) & (pc.field("time_ms") > since))
    first = next(iter(monitor.windows(logged, declared)), None)
    if first is None:
        length = f"{declared.rows} rows" if declared.rows is not None else declared.time or "1h"
        raise NotYet(
            f"v{version} was registered without a reference window. Its first {length} here{_told(since)} will be "
            f"what it is compared with; it has answered {logged.num_rows} row(s).",
            remedy="Nothing to do but wait.",
        )
    told = [name for name in (PREDICTION, CONFIDENCE) if name in first.column_names]
    found = pa.table(cells.inputs(first)).select([*signature.names, *told])
    kept.parent.mkdir(exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(found, sink)
    atomic_write(kept, sink.getvalue().to_pybytes())
    for old in (*kept.parent.glob(f"v{version}.*"), *kept.parent.glob(f"v{version}-*")):
        if old.stem != kept.stem:
            old.unlink(missing_ok=True)
    return found


def evaluation(folder: Path, version: int, since: int = 0) -> dict[str, Any]:
    """What the first labelled window was worth: {metrics, standard_errors, against}; empty before there is one."""
    kept = _kept(folder, version, since).with_suffix(".json")
    return msgspec.json.decode(kept.read_bytes()) if kept.exists() else {}


def keep_evaluation(folder: Path, version: int, since: int, found: dict[str, Any]) -> None:
    """Keep what the first labelled window was worth. The window's rows are kept before."""
    atomic_write(_kept(folder, version, since).with_suffix(".json"), msgspec.json.encode(found))


def _kept(folder: Path, version: int, since: int) -> Path:
    return folder / FOLDER / (f"v{version}-{since}" if since else f"v{version}")


def _told(since: int) -> str:
    return f" since {iso(since)}" if since else ""
