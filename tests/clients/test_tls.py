"""The stock client, the command line and large artifacts over HTTPS."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from modelyard.client.api import Client
from modelyard.domain.errors import Unavailable
from tests.certificates import make_certificate
from tests.conftest import MINIMAL, RunningServer, start_server, wait_until
from tests.unit.deliver.deployments.house import Flow

LOGS = """
import mlflow, sys
with mlflow.start_run() as run:
    mlflow.log_metric("m", 0.5)
    mlflow.log_artifact(sys.argv[1])
print(mlflow.get_run(run.info.run_id).data.metrics["m"])
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("tls")
    (project / "modelyard.toml").write_text(MINIMAL)
    certificate, key = make_certificate(project)
    running = start_server(project, "--tls-certificate", str(certificate), "--tls-key", str(key))
    yield running
    running.stop()


def outcome(hub: RunningServer, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD", "MLFLOW"))}
    return subprocess.run(
        [sys.executable, *command], cwd=hub.project, env=kept | extra, capture_output=True, text=True, check=False
    )


def test_the_stock_client_logs_over_https(hub: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(3 << 20))
    environment = {
        "MLFLOW_TRACKING_URI": hub.url,
        "MLFLOW_TRACKING_TOKEN": hub.token,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(hub.project / "ca.pem"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    assert hub.url.startswith("https://")
    done = outcome(hub, "-c", LOGS, str(file), **environment)
    assert "0.5" in done.stdout, done.stderr


def test_the_command_line_trusts_its_own_server(hub: RunningServer) -> None:
    done = outcome(hub, "-m", "modelyard", "runs")
    assert done.returncode == 0, done.stderr


def test_others_name_the_certificate(hub: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="MODELYARD_CA_CERTIFICATE"):
        Client.connect(hub.url, hub.token).call("GET", "/api/v1/me")
    monkeypatch.setenv("MODELYARD_CA_CERTIFICATE", str(hub.project / "ca.pem"))
    assert Client.connect(hub.url, hub.token).call("GET", "/api/v1/me")["name"] == "owner"


def test_the_consoles_cookie_stays_on_https(hub: RunningServer) -> None:
    pool = urllib3.PoolManager(ca_certs=str(hub.project / "ca.pem"))
    answer = pool.request(
        "POST", f"{hub.url}/sign-in", fields={"token": hub.token}, encode_multipart=False, redirect=False
    )
    assert answer.status == 303 and "Secure" in answer.headers["set-cookie"]


def test_a_renewed_certificate_needs_no_restart(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text(MINIMAL)
    certificate, key = make_certificate(tmp_path)
    hub = start_server(tmp_path, "--tls-certificate", str(certificate), "--tls-key", str(key))
    try:
        where = ("127.0.0.1", int(hub.url.rpartition(":")[2]))
        before, pid = ssl.get_server_certificate(where), hub.process.pid
        trusted = tmp_path / ".modelyard" / "run" / "server-certificate.pem"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MODELYARD_CA_CERTIFICATE", str(trusted))
            client = Client.connect(hub.url, hub.token)
            with Flow(lambda: (200, client.call("GET", "/api/v1/me")["name"]), pause_s=0.05) as flow:
                make_certificate(tmp_path)  # of another authority
                wait_until(lambda: ssl.get_server_certificate(where) != before, "the renewed certificate")
                assert Client.connect(hub.url, hub.token).call("GET", "/api/v1/me")["name"] == "owner"
                client.close()  # so that the next call begins with a handshake
                assert client.call("GET", "/api/v1/me")["name"] == "owner"
                wait_until(lambda: flow.total() > 5, "enough traffic")
        assert not flow.failed
        assert "PRIVATE" not in trusted.read_text() and hub.process.poll() is None and hub.process.pid == pid
        key.write_text("nothing")
        said = "the server: the certificate from before stays in force"
        wait_until(lambda: said in outcome(hub, "-m", "modelyard", "endpoints").stdout, "the refusal")
    finally:
        hub.stop()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tls-key", "server.key"), "without --tls-certificate"),
        (("--tls-certificate", "server.pem"), "Name PEM files"),
        (("--tls-certificate", "missing.pem"), "does not exist"),
    ],
)
def test_what_would_not_encrypt_does_not_start(hub: RunningServer, options: tuple[str, ...], words: str) -> None:
    done = outcome(hub, "-m", "modelyard", "server", "--home", "other", "--project", ".", "--port", "0", *options)
    assert done.returncode != 0 and words in done.stderr
