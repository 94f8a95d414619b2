"""TLS and mutual TLS of a gateway, as a project declares them and as clients meet them."""

import os
import shutil
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trustme
import urllib3
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from modelyard.deliver.serving.tls import TlsFiles
from modelyard.domain.errors import ConfigError
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.deployments.house import FAST, House
from tests.unit.deliver.serving.conftest import TOKEN, Plane, numeric_model, opened_plane

CALLER = "caller@example.com"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of PEM files: an authority's, the gateway's and a caller's."""
    authority = trustme.CA()
    folder = tmp_path / "tls"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "own.pem")
    )
    authority.issue_cert(CALLER).private_key_and_cert_chain_pem.write_to_path(str(folder / "caller.pem"))
    return folder


def pool(files: Path, caller: bool) -> urllib3.PoolManager:
    shown = str(files / "caller.pem") if caller else None
    return urllib3.PoolManager(ca_certs=str(files / "ca.pem"), cert_file=shown, key_file=shown, retries=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_project_declares_mutual_tls(files: Path, yard: Callable[..., House]) -> None:
    told = f'{{ certificate = "{files / "own.pem"}", client_ca = "{files / "ca.pem"}" }}'
    house = yard(FAST + f'tls = {told}\nhosts = ["localhost"]\n')
    house.ship()
    house.wait_event("rollout.completed", version=1)
    url = house.endpoint()["url"]
    assert url.startswith("https://localhost:") and url in house.command("endpoints")
    where = f"{url}/endpoints/m/invocations"
    said = {"json": {"inputs": {"x": [2.0]}}, "headers": {"authorization": f"Bearer {house.tokens['otto']}"}}
    house.wait(lambda: pool(files, caller=True).request("POST", where, **said).status == 200, "v1 to answer")
    answer = pool(files, caller=True).request("POST", where, **said)
    assert answer.json() == {"predictions": [2.0]}
    assert pool(files, caller=True).request("POST", where).status == 401
    with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
        pool(files, caller=False).request("POST", where, **said)
    house.environment |= {"SSL_CERT_FILE": str(files / "ca.pem")}
    refused = house.command("predict", "production/m", "--json", '[{"x": 2}]', fails=True)
    assert "No answer" in refused or "MODELYARD_CLIENT_CERTIFICATE" in refused
    house.environment |= {"MODELYARD_CLIENT_CERTIFICATE": str(files / "caller.pem")}
    assert '"predictions"' in house.command("predict", "production/m", "--json", '[{"x": 2}]')


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_cannot_start_for_its_certificate_is_said(
    files: Path, yard: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateway and server are killed while their files do not fit; mended, both are back by themselves."""
    for name in ("server", "gateway"):
        shutil.copy(files / "own.pem", files / f"{name}.pem")
    given = ("--port", str(free_port()), "--tls-certificate", str(files / "server.pem"))
    monkeypatch.setenv("MODELYARD_CA_CERTIFICATE", str(files / "ca.pem"))
    house = yard(FAST + f'tls = {{ certificate = "{files / "gateway.pem"}" }}\n', *given)
    house.ship()
    house.wait_event("rollout.completed", version=1)
    for name, words in (("gateway", ("modelyard.deliver.serving.gateway",)), ("server", ("server", str(house.home)))):
        (files / f"{name}.pem").write_text("nothing")
        pid = house.pid_of(*words)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    house.wait(lambda: "does not answer: requests fail" in house.command("endpoints"), "the gateway's reason", 60)
    said = house.command("endpoints")
    assert "gateway.pem is no PEM file" in said and "the server: it does not run" in said
    house.wait(lambda: "server.pem is no PEM file" in house.command("endpoints"), "the server's reason", 60)
    for name in ("server", "gateway"):
        shutil.copy(files / "own.pem", files / f"{name}.pem")
    house.wait(lambda: house.note("server"), "the server", 60)
    house.wait(lambda: "does not" not in house.command("endpoints"), "both to run", 60)


@pytest.fixture
def served(tmp_path: Path, files: Path):
    """A gateway with TLS and another name, that asks for no client certificate."""
    with opened_plane(tmp_path) as plane:
        plane.route()
        plane.port = free_port()
        certificate = ["--tls-certificate", str(files / "own.pem"), "--allow-host", "models.example.com"]
        options = ["--environment", "test", "--folder", str(plane.folder), "--port", str(plane.port), *certificate]
        plane.launch(
            "gateway", "modelyard.deliver.serving.gateway", *options, "--admin-socket", plane.socket("admin")
        )
        plane.stats()  # it runs
        yield plane


def test_tls_with_a_renewed_certificate_and_a_further_name(served: Plane, files: Path) -> None:
    where = f"https://127.0.0.1:{served.port}/v2/health/live"
    named = {"host": f"models.example.com:{served.port}", "authorization": f"Bearer {TOKEN}"}
    assert pool(files, caller=False).request("GET", where, headers=named).status == 200
    other = pool(files, caller=False).request("GET", where, headers=named | {"host": "elsewhere.example.com"})
    assert other.status == 403
    with pytest.raises((urllib3.exceptions.ProtocolError, urllib3.exceptions.HTTPError)):
        urllib3.request("GET", where.replace("https", "http"), retries=False)
    before = ssl.get_server_certificate(("127.0.0.1", served.port))
    renewed = trustme.CA()
    renewed.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(files / "new.pem"))
    (files / "new.pem").replace(files / "own.pem")
    wait_until(lambda: ssl.get_server_certificate(("127.0.0.1", served.port)) != before, "the renewed certificate")


def test_files_that_do_not_fit_are_named(files: Path) -> None:
    missing = TlsFiles(files / "own.pem", files / "nothing.pem")
    with pytest.raises(ConfigError, match=r"nothing\.pem cannot be read"):
        missing.context("environments.production.tls")
    (files / "broken.key").write_text("nothing")
    with pytest.raises(ConfigError, match=r"own\.pem or .*broken\.key is no PEM file"):
        TlsFiles(files / "own.pem", files / "broken.key").context("here")
    with pytest.raises(ConfigError, match=r"environments\.production\.tls"):
        TlsFiles(files / "own.pem", files / "ca.pem").context("environments.production.tls")


def live(client: InferenceServerClient) -> bool:
    try:
        return client.is_server_live({"authorization": f"Bearer {TOKEN}"}, client_timeout=10)
    except InferenceServerException:
        return False


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual tls"])
def test_grpc_is_encrypted_as_http_is(tmp_path: Path, files: Path, mutual: bool) -> None:
    with opened_plane(tmp_path) as plane:
        model, rows = numeric_model(tmp_path / "model")
        plane.worker("v1", tmp_path / "model")
        plane.route(plane.target("v1"))
        plane.port, port = free_port(), free_port()
        options = ["--environment", "test", "--folder", str(plane.folder), "--port", str(plane.port)]
        options += ["--grpc-port", str(port), "--tls-certificate", str(files / "own.pem")]
        options += ["--client-ca", str(files / "ca.pem")] if mutual else []
        plane.launch(
            "gateway", "modelyard.deliver.serving.gateway", *options, "--admin-socket", plane.socket("admin")
        )
        plane.stats()  # it runs
        own = str(files / "caller.pem") if mutual else None
        known = {"ssl": True, "root_certificates": str(files / "ca.pem")}
        metadata = {"authorization": f"Bearer {TOKEN}"}
        given = InferInput("x", [3, 4], "FP64")
        given.set_data_from_numpy(rows.to_numpy()[:3])
        with InferenceServerClient(f"localhost:{port}", **known, private_key=own, certificate_chain=own) as client:
            wait_until(lambda: live(client), "gRPC, which listens last")
            answer = client.infer("m", [given], headers=metadata).as_numpy("predict")
            np.testing.assert_allclose(answer, model.predict_proba(rows[:3]), rtol=1e-12)
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("m", [given])
        stranger = {} if not mutual else known  # who knows no authority, or shows no certificate
        with (
            InferenceServerClient(f"localhost:{port}", **stranger) as client,
            pytest.raises(InferenceServerException),
        ):
            client.infer("m", [given], headers=metadata, client_timeout=10)
