"""Files that come in parts, into local files and into S3: whole, refused, given up, and over the server's death."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from modelyard.store.objects.opening import open_objects
from tests.conftest import RunningServer, start_server

MB = 1 << 20
HTTP = urllib3.PoolManager(retries=False)


@dataclass
class Hub:
    """A server, and where its artifacts are."""

    server: RunningServer
    artifacts: str

    def ask(self, path: str, token: str = "", /, **body: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {token or self.server.token}", "content-type": "application/json"}
        url = f"{self.server.url}/api/2.0/mlflow-artifacts/mpu/{path}"
        answer = HTTP.request("POST", url, body=json.dumps(body).encode(), headers=headers)
        return answer.status, answer.json()

    def begin(self, folder: str, parts: int = 2) -> tuple[str, list[str]]:
        """(id, the address of each part) of an upload of `big.bin`."""
        status, answer = self.ask(f"create/{folder}", path="/home/ana/big.bin", num_parts=parts)
        assert status == 200, answer
        return answer["upload_id"], [item["url"] for item in answer["credentials"]]

    def end(self, folder: str, upload: str, tags: list[str], token: str = "") -> tuple[int, Any]:
        parts = [{"part_number": number, "etag": tag} for number, tag in enumerate(tags, 1)]
        return self.ask(f"complete/{folder}", token, path="/home/ana/big.bin", upload_id=upload, parts=parts)

    def got(self, path: str) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self.server.token}"}
        url = f"{self.server.url}/api/2.0/mlflow-artifacts/artifacts/{path}"
        answer = HTTP.request("GET", url, headers=headers)
        return answer.status, answer.data

    def token_of(self, name: str, role: str) -> str:
        self.server.client.call("POST", "/api/v1/principals", body={"name": name, "roles": [role]})
        return self.server.client.call("POST", "/api/v1/tokens", body={"principal": name})["token"]

    def stored(self) -> set[str]:
        objects = open_objects(self.artifacts, self.server.home)
        return {item.digest for item in (*objects.kept(), *objects.binned())}


def send(url: str, data: bytes) -> tuple[int, str]:
    """(status, ETag) of a part that is sent by nobody in particular."""
    answer = HTTP.request("PUT", url, body=data)
    return answer.status, answer.headers.get("etag", "")


@pytest.fixture(scope="module", params=["local", "s3"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with pytest.MonkeyPatch.context() as patch:
        place = ""
        if request.param == "s3":
            s3 = request.getfixturevalue("s3_server")
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            place = f"s3://{s3.new_bucket()}/yard"
        running = start_server(tmp_path_factory.mktemp("hub"), *(["--artifacts", place] if place else []))
        yield Hub(running, place)
        running.stop()


def test_the_stock_client_uploads_in_parts(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    for name, value in {
        "TRACKING_TOKEN": hub.server.token,
        "ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(MB),
        "MULTIPART_UPLOAD_CHUNK_SIZE": str(MB),
        "ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    sent = list[str]()
    known = mlflow.store.artifact.http_artifact_repo.HttpArtifactRepository._upload_part

    def counted(credential: Any, *args: Any, **named: Any) -> Any:
        sent.append(credential.url)
        return known(credential, *args, **named)

    monkeypatch.setattr(
        mlflow.store.artifact.http_artifact_repo.HttpArtifactRepository, "_upload_part", staticmethod(counted)
    )
    big = tmp_path / "big file.bin"
    big.write_bytes(os.urandom(3 * MB + 17))
    client = mlflow.MlflowClient(hub.server.url)
    run_id = client.create_run("0").info.run_id
    client.log_artifact(run_id, str(big))
    client.log_artifact(run_id, str(big), "deep/er")
    assert len(sent) == 8
    for path in ("big file.bin", "deep/er/big file.bin"):
        got = client.download_artifacts(run_id, path, str(tmp_path / "back"))
        assert Path(got).read_bytes() == big.read_bytes()
    assert [item.file_size for item in client.list_artifacts(run_id, "deep/er")] == [3 * MB + 17]


def test_who_may_send_and_end(hub: Hub) -> None:
    folder = "0/r/artifacts/who"
    upload, (one, two) = hub.begin(folder)
    assert send(one.replace("signature=", "signature=0"), b"x")[0] == 403
    assert send(one.replace("/1?", "/2?"), b"x")[0] == 403
    assert send(one.partition("?")[0], b"x")[0] == 403
    assert send(one.replace(upload, "0" * 32), b"x")[0] == 403
    tags = [send(one, b"first ")[1], send(two, b"second")[1]]
    assert tags[0] == f'"{hashlib.sha256(b"first ").hexdigest()}"'
    reader, other = hub.token_of("reader", "auditor"), hub.token_of("other", "data-scientist")
    for token in (reader, other):
        assert hub.end(folder, upload, tags, token)[0] == 403
    assert hub.ask(f"create/{folder}", reader, path="x", num_parts=1)[0] == 403
    assert hub.end("0/r/artifacts/elsewhere", upload, tags)[1]["error_code"] == "INVALID_PARAMETER_VALUE"
    assert hub.end(folder, upload, tags)[0] == 200
    assert hub.end(folder, upload, tags)[0] == 200  # a client whose answer was lost asks again
    assert send(one, b"late")[0] == 400
    assert hub.got(f"{folder}/big.bin") == (200, b"first second")


def test_what_cannot_be_joined(hub: Hub) -> None:
    folder = "0/r/artifacts/wrong"
    for count in (0, 10_001, "many"):
        assert hub.ask(f"create/{folder}", path="big.bin", num_parts=count)[0] == 400
    assert hub.ask("create/0", path="..", num_parts=1)[0] == 400
    upload, (one, two) = hub.begin(folder)
    first = send(one, b"a")[1]
    assert "Part 2" in hub.end(folder, upload, [first, first])[1]["message"]
    assert hub.end(folder, upload, [])[0] == 400
    assert send(two, b"b")[0] == 200
    assert send(one, b"c")[1] != first
    assert "Part 1" in hub.end(folder, upload, [first])[1]["message"]
    assert hub.got(f"{folder}/big.bin")[0] == 404


def test_what_was_given_up_is_collected(hub: Hub) -> None:
    folder = "0/r/artifacts/gone"
    upload, (one, _) = hub.begin(folder)
    left, (other, _) = hub.begin(folder)
    digests = {send(one, b"given up")[1].strip('"'), send(other, b"left behind")[1].strip('"')}
    hub.server.client.call("POST", "/api/v1/storage/collection")
    assert digests <= hub.stored()
    assert hub.ask(f"abort/{folder}", path="big.bin", upload_id=upload)[0] == 200
    assert send(one, b"given up")[0] == 403
    assert hub.end(folder, upload, ["x"])[0] == 404
    assert hub.ask(f"abort/{folder}", path="big.bin", upload_id=upload)[0] == 404
    hub.server.client.call("POST", "/api/v1/storage/purge", body={"older_than": "0s", "at_once": True})
    assert not digests & hub.stored()
    assert hub.end(folder, left, ["x"])[0] == 404


def test_an_upload_outlives_the_server_and_not_a_day(tmp_path: Path) -> None:
    """The server is killed between the last part and the end; then a later part comes too late."""
    (tmp_path / "modelyard.toml").write_text('[project]\nname = "parts"\n')
    first = Hub(start_server(tmp_path), "")
    upload, urls = first.begin("0/r/artifacts")
    tags = [send(url, data)[1] for url, data in zip(urls, (b"one ", b"two"), strict=True)]
    late, (url, _) = first.begin("0/r/artifacts")
    first.server.process.kill()
    first.server.process.wait(20)
    with closing(sqlite3.connect(first.server.home / "yard.db")) as database, database:
        database.execute("UPDATE uploads SET created_at = created_at - 86400001 WHERE id = ?", [late])
    second = Hub(start_server(tmp_path), "")
    try:
        assert second.end("0/r/artifacts", upload, tags)[0] == 200
        assert second.got("0/r/artifacts/big.bin") == (200, b"one two")
        there = second.server.url.rpartition(":")[2]
        status, _ = send(url.replace(url.split("/")[2].rpartition(":")[2], there, 1), b"late")
        assert status == 403
        second.server.client.call("POST", "/api/v1/storage/collection")
        assert second.end("0/r/artifacts", late, ["x"])[0] == 404
    finally:
        second.server.stop()
