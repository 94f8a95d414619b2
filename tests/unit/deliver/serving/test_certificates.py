"""Certificates that are replaced while clients come and go."""

import contextlib
import http.client
import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from modelyard.deliver.serving.certificates import DAY_MS, Certificates, days_left, warnings
from modelyard.deliver.serving.tls import TlsFiles
from modelyard.domain.errors import ConfigError
from tests.conftest import wait_until
from tests.ports import free_port
from tests.unit.deliver.deployments.house import Flow
from tests.unit.deliver.serving.conftest import TOKEN, Plane, opened_plane

HEADERS = {"authorization": f"Bearer {TOKEN}"}


def put(folder: Path, authority: trustme.CA, name: str, *hosts: str, **more: datetime) -> None:
    """Two files, NAME.pem and NAME.key, the second a moment later than the first."""
    issued = authority.issue_cert(*hosts, **more)
    for file, content in (("pem", issued.cert_chain_pems[0]), ("key", issued.private_key_pem)):
        content.write_to_path(str(folder / f".{name}.{file}"))
        (folder / f".{name}.{file}").replace(folder / f"{name}.{file}")


class Callers:
    """Clients of one gateway: whom they trust, and what they show."""

    def __init__(self, folder: Path, plane: Plane, grpc_port: int) -> None:
        self.folder, self.plane, self.grpc_port = folder, plane, grpc_port

    def context(self, name: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.folder / "known.pem"))
        made.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return made

    def connection(self, name: str) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.plane.port, context=self.context(name), timeout=20)

    def ask(self, name: str, held: http.client.HTTPSConnection | None = None) -> tuple[int, str]:
        """(status, ""); 0 and why where no answer came."""
        connection = held or self.connection(name)
        try:
            connection.request("GET", "/v2/health/live", headers=HEADERS)
            answer = connection.getresponse()
            answer.read()
            return answer.status, ""
        except OSError as error:
            return 0, type(error).__name__
        finally:
            if held is None:
                connection.close()

    def shown(self) -> bytes:
        """The gateway's certificate, as a client meets it now."""
        connection = self.connection("first-caller")
        connection.connect()
        try:
            return connection.sock.getpeercert(binary_form=True)
        finally:
            connection.close()


@pytest.fixture
def first() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def second() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def callers(tmp_path: Path, first: trustme.CA, second: trustme.CA) -> Iterator[Callers]:
    """A gateway that takes callers whom the first authority signed, over HTTP and gRPC."""
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "known.pem").write_bytes(first.cert_pem.bytes() + second.cert_pem.bytes())
    put(folder, first, "own", "localhost", "127.0.0.1")
    put(folder, first, "first-caller", "caller@example.com")
    put(folder, second, "second-caller", "caller@example.com")
    first.cert_pem.write_to_path(str(folder / "callers.pem"))
    with opened_plane(tmp_path) as plane:
        plane.route()
        plane.port, grpc_port = free_port(), free_port()
        options = ["--environment", "test", "--folder", str(plane.folder), "--port", str(plane.port)]
        options += ["--tls-certificate", str(folder / "own.pem"), "--tls-key", str(folder / "own.key")]
        options += ["--client-ca", str(folder / "callers.pem"), "--admin-socket", plane.socket("admin")]
        options += ["--grpc-port", str(grpc_port)]
        plane.launch("gateway", "modelyard.deliver.serving.gateway", *options)
        plane.stats()  # it runs
        yield Callers(folder, plane, grpc_port)


def replaced(callers: Callers, name: str, content: bytes) -> None:
    (callers.folder / f".{name}").write_bytes(content)
    (callers.folder / f".{name}").replace(callers.folder / name)


@pytest.mark.timeout(300)
def test_certificates_and_authorities_change_under_traffic(
    callers: Callers, first: trustme.CA, second: trustme.CA
) -> None:
    with Flow(lambda: callers.ask("first-caller"), pause_s=0.05) as flow:
        before = callers.shown()
        put(callers.folder, second, "own", "localhost", "127.0.0.1")
        wait_until(lambda: callers.shown() != before, "the renewed certificate")
        assert callers.ask("second-caller")[0] == 0
        replaced(callers, "callers.pem", first.cert_pem.bytes() + second.cert_pem.bytes())
        wait_until(lambda: callers.ask("second-caller")[0] == 200, "the second authority")
        wait_until(lambda: flow.total() > 20, "enough traffic")
    assert flow.failed == {}
    with contextlib.closing(callers.connection("first-caller")) as kept:
        the_first_authority_ends(callers, second, kept)


def the_first_authority_ends(callers: Callers, second: trustme.CA, kept: http.client.HTTPSConnection) -> None:
    resuming = callers.context("first-caller")
    assert callers.ask("first-caller", kept) == (200, "")
    session = resumable(callers, resuming, None)
    with Flow(lambda: callers.ask("second-caller"), pause_s=0.05) as flow:
        replaced(callers, "callers.pem", second.cert_pem.bytes())
        wait_until(lambda: callers.ask("first-caller")[0] == 0, "the first authority's end")
    assert flow.failed == {}
    assert callers.ask("first-caller", kept) == (200, ""), "a connection stays as it began"
    with pytest.raises(OSError):
        resumable(callers, resuming, session)


def resumable(callers: Callers, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """The session of a connection that asked something. Raises OSError where it is not taken."""
    raw = socket.create_connection(("localhost", callers.plane.port), 20)
    with context.wrap_socket(raw, server_hostname="localhost", session=session) as secure:
        secure.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        if not secure.recv(4096):
            raise ConnectionResetError
        return secure.session


def test_a_refused_caller_is_told_why(callers: Callers, first: trustme.CA) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    put(callers.folder, first, "late-caller", "x@example.com", not_before=past - timedelta(days=9), not_after=past)
    nobody = ssl.create_default_context(cafile=str(callers.folder / "known.pem"))
    told = {"late-caller": "expired", "second-caller": "unknown ca", "": "required"}
    for name, said in told.items():
        with pytest.raises(OSError, match=said):
            resumable(callers, callers.context(name) if name else nobody, None)
    counted = metrics(callers)
    for reason in ("certificate has expired", "in certificate chain", "DID_NOT_RETURN"):
        assert reason in counted and reason in callers.plane.log("gateway")


@pytest.mark.timeout(300)
def test_grpc_takes_a_renewed_certificate(callers: Callers, first: trustme.CA, second: trustme.CA) -> None:
    def live(authority: trustme.CA, name: str) -> bool:
        known = callers.folder / f"{name}-trusted.pem"
        authority.cert_pem.write_to_path(str(known))
        own = {"private_key": f"{callers.folder / name}.key", "certificate_chain": f"{callers.folder / name}.pem"}
        at = f"localhost:{callers.grpc_port}"
        with InferenceServerClient(at, ssl=True, root_certificates=str(known), **own) as client:
            try:
                return client.is_server_live({"authorization": f"Bearer {TOKEN}"}, client_timeout=10)
            except InferenceServerException:
                return False

    wait_until(lambda: live(first, "first-caller"), "gRPC, which listens last")
    assert not live(first, "second-caller")
    put(callers.folder, second, "own", "localhost", "127.0.0.1")
    replaced(callers, "callers.pem", second.cert_pem.bytes())
    wait_until(lambda: live(second, "second-caller"), "the second authority")
    assert not live(second, "first-caller")


def test_files_that_do_not_fit_leave_the_ones_before_in_force(callers: Callers, first: trustme.CA) -> None:
    before, plane = callers.shown(), callers.plane
    good = (callers.folder / "own.key").read_bytes()
    replaced(callers, "own.key", first.issue_cert("localhost").private_key_pem.bytes())
    wait_until(lambda: plane.stats()["tls"]["refused"] != "", "the refusal")
    [said] = warnings(plane.stats()["tls"], 0)
    assert "stays in force" in said and "own.key is not the key of" in said
    assert callers.shown() == before and callers.ask("first-caller") == (200, "")
    assert "stays in force" in plane.log("gateway") and plane.log("gateway").count("is not the key") == 1
    assert "modelyard_certificate_refused{} 1" in metrics(callers)
    replaced(callers, "own.key", good)
    wait_until(lambda: plane.stats()["tls"]["refused"] == "", "the pair that fits")
    assert "modelyard_certificate_refused{} 0" in metrics(callers)


def metrics(callers: Callers) -> str:
    connection = callers.connection("first-caller")
    connection.request("GET", "/metrics", headers=HEADERS)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_metrics_say_when_certificates_end(callers: Callers) -> None:
    ends = {held["use"]: held["ends_at"] for held in callers.plane.stats()["tls"]["files"]}
    text = metrics(callers)
    assert f'modelyard_certificate_end_timestamp_seconds{{use="certificate"}} {ends["certificate"] / 1000}' in text
    assert f'{{use="client_ca"}} {ends["client_ca"] / 1000}' in text


@pytest.fixture
def own(tmp_path: Path, first: trustme.CA) -> Certificates:
    put(tmp_path, first, "own", "localhost")
    return Certificates(TlsFiles(tmp_path / "own.pem", tmp_path / "own.key"), "here")


def test_a_gateway_that_starts_in_the_middle_of_a_renewal_waits_for_the_other_half(
    tmp_path: Path, first: trustme.CA
) -> None:
    put(tmp_path, first, "own", "localhost")
    (tmp_path / "next").mkdir()
    put(tmp_path / "next", first, "own", "localhost")
    (tmp_path / "next" / "own.pem").replace(tmp_path / "own.pem")
    with opened_plane(tmp_path) as plane:
        plane.route()
        files = ["--tls-certificate", str(tmp_path / "own.pem"), "--tls-key", str(tmp_path / "own.key")]
        process = plane.launch_gateway("gateway", free_port(), *files)
        said = f"own.key is not the key of {tmp_path / 'own.pem'}. It is waited for up to 5 s"
        wait_until(lambda: said in plane.log("gateway"), "the gateway to say what it waits for")
        (tmp_path / "next" / "own.key").replace(tmp_path / "own.key")
        plane.stats()  # it runs
        assert process.poll() is None and plane.log("gateway").count("waited for") == 1

        (tmp_path / "own.key").unlink()  # what nobody mends ends it, with the reason last
        late = plane.launch_gateway("late", free_port(), *files)
        assert late.wait(60) == 1
        assert "The gateway cannot start: --tls-certificate:" in plane.log("late").splitlines()[-1]


def test_half_a_pair_is_no_refusal_yet(tmp_path: Path, own: Certificates, first: trustme.CA) -> None:
    (tmp_path / "next").mkdir()
    put(tmp_path / "next", first, "own", "localhost")
    held = own.held
    shutil.move(tmp_path / "next" / "own.pem", tmp_path / "own.pem")
    own.look()
    assert own.held is held and own.refused == ""
    shutil.move(tmp_path / "next" / "own.key", tmp_path / "own.key")
    own.look()
    assert own.held is not held and own.refused == ""
    (tmp_path / "own.key").unlink()
    own.look()
    own.look()
    assert "own.key cannot be read" in own.refused


def test_an_ended_certificate_takes_no_other_ones_place(tmp_path: Path, own: Certificates, first: trustme.CA) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    put(tmp_path, first, "own", "localhost", not_before=past - timedelta(days=9), not_after=past)
    own.look()
    own.look()
    assert "has ended" in own.refused


def test_a_key_with_a_pass_phrase_is_refused_without_asking(tmp_path: Path, own: Certificates) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((tmp_path / "own.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    kind = serialization.PrivateFormat.PKCS8
    (tmp_path / "own.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, locked))
    with pytest.raises(ConfigError, match="needs a pass phrase"):
        Certificates(own.files, "here")


def test_the_end_is_said_in_advance() -> None:
    now = 1_900_000_000_000
    assert [days_left(now + int(days * DAY_MS), now) for days in (31, 29, 7.5, 6.9, 0)] == [None, 30, 30, 7, 0]
    told = {"refused": "", "files": [{"file": "a.pem", "use": "certificate", "ends_at": now + 6 * DAY_MS}]}
    assert warnings(told, now) == ["a.pem ends in 6 days, 2030-03-23T17:46:40.000Z"]
    assert "ended" in warnings(told, now + 7 * DAY_MS)[0] and warnings(told, now - 30 * DAY_MS) == []
    assert warnings(None, now) == []
