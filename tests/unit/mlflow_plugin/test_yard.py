"""A yard in this process: files go in and out in pieces."""

from pathlib import Path

from modelyard.kit.hashing import digest_file
from modelyard.mlflow_plugin.yard import LocalYard

PLACE = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts"
LARGE = 160


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    yard, sent, received = LocalYard(tmp_path / "home"), tmp_path / "sent", tmp_path / "received"
    with sent.open("wb") as stream:
        for number in range(LARGE):
            stream.write(bytes([number]) * (1 << 20))
    small = tmp_path / "small"
    small.write_bytes(b"abc")
    assert yard.upload(f"{PLACE}/small", small).status == 200
    before = peak_mb()
    assert yard.upload(f"{PLACE}/large", sent).status == 200
    assert yard.download(f"{PLACE}/large", received).status == 200
    assert digest_file(received) == digest_file(sent)
    assert peak_mb() - before < LARGE / 4
    assert yard.download(f"{PLACE}/small", received).status == 200
    assert received.read_bytes() == b"abc"


def test_what_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    answer = LocalYard(tmp_path / "home").download(f"{PLACE}/missing", tmp_path / "missing")
    assert answer.status == 404 and b"RESOURCE_DOES_NOT_EXIST" in answer.body
    assert not (tmp_path / "missing").exists()
