"""What a worker is told to serve; apart from `loading`, so that the controller needs none of a model's libraries."""

import msgspec


class WorkerSpec(msgspec.Struct, frozen=True):
    """One entry of `desired.json`. memory_mb: the private memory that the kernel lets the worker have; python: the
    interpreter of its own environment, None for the yard's.

    least: of a scaled deployment: its worker `number` runs while more than that many are wanted, at first so many.
    ray: the cluster that runs it, empty for this machine's, None: nobody's. cpus: what it reserves of a node there.
    host: where on the network it listens instead of at its socket, with `secret` (see `far`); `socket` then names the
    file that gets the port.
    """

    id: str
    deployment: str
    model: str
    version: int
    digest: str
    model_dir: str
    manifest: dict[str, str]
    socket: str
    memory_mb: int | None = None
    max_batch_rows: int = 4096
    python: str | None = None
    number: int = 0
    least: int | None = None
    cpus: float = 1.0
    ray: str | None = None
    host: str = ""
    secret: str = ""
