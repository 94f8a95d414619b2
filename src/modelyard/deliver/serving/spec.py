"""What a worker is told to serve; apart from `loading`, so that the controller needs none of a model's libraries."""

import msgspec


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker is told to serve: one entry of `desired.json`."""

    id: str
    deployment: str
    model: str
    version: int
    digest: str
    model_dir: str
    manifest: dict[str, str]
    socket: str
