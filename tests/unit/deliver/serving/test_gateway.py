"""The gateway, a real process in front of a real worker."""

import base64
import gzip
import hashlib
import json
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.unit.deliver.serving.conftest import JSON, TOKEN, Plane, odd_model, opened_plane

INVOKE = "/endpoints/m/invocations"
ONE = b'{"inputs": {"x": [1.0]}}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A gateway and one worker for the tests that leave both as they found them."""
    home = tmp_path_factory.mktemp("shared")
    with opened_plane(home) as plane:
        plane.worker("v1", odd_model(home / "odd", home / "gate"))
        plane.route(plane.target("v1"), limits={"max_body_bytes": 2000, "timeout_s": 20, "max_concurrency": 256})
        plane.gateway()
        yield plane


def test_a_prediction_says_who_answered_and_how_long_it_took(shared: Plane):
    status, headers, answer = shared.x(1.0, 4.5)
    assert (status, answer) == (200, {"predictions": [2.0, 9.0]})
    assert headers["x-modelyard-deployment"] == "v1" and headers["x-modelyard-version"] == "1"
    assert len(headers["x-prediction-id"]) == 32
    timings = {part.split(";")[0].strip() for part in headers["server-timing"].split(",")}
    assert {"queue", "predict", "total"} <= timings


def test_every_answer_tells_parse_queue_and_predict_times(shared: Plane):
    _, headers, _ = shared.x(1.0)
    assert "parse" in headers["server-timing"]
    _, headers, _ = shared.predict({"inputs": {"x": ["a"]}})
    assert "server-timing" in headers


def test_callers_ids_are_kept_and_traces_passed_through(shared: Plane):
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    _, headers, _ = shared.x(1.0, x_request_id="order-17", traceparent=trace)
    assert headers["x-request-id"] == "order-17" and headers["traceparent"] == trace
    assert headers["x-prediction-id"] != "order-17"
    _, headers, _ = shared.x(1.0, x_amzn_sagemaker_inference_id="sage-1", traceparent="nonsense")
    assert headers["x-request-id"] == "sage-1" and "traceparent" not in headers


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401),
        ("Bearer ", 401),
        ("Digest x", 401),
        ("Basic not-base64!", 401),
        ("Bearer wrong", 401),
        ("Basic " + base64.b64encode(b"me:wrong").decode(), 401),
        (f"bearer {TOKEN}", 200),
        ("Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode(), 200),
    ],
)
def test_only_known_tokens_are_answered(shared: Plane, authorization: str, status: int):
    found, headers, answer = shared.call("POST", INVOKE, ONE, authorization=authorization, content_type=JSON)
    assert found == status
    assert ("www-authenticate" in headers) == (status == 401)
    if status != 200:
        assert set(json.loads(answer)) == {"error_code", "message"}


def test_a_token_that_is_not_known_and_one_that_may_not(plane: Plane):
    """RFC 6750: who gets 401 may come again with another token, who gets 403 needs another role."""
    known = hashlib.sha256(b"auditor").hexdigest()
    plane.route_endpoints({}, others=[known], labelers={hashlib.sha256(b"labels").hexdigest(): "labels"})
    plane.gateway()
    for token, status, error in (
        ("nobody", 401, "invalid_token"),
        ("auditor", 403, "insufficient_scope"),
        ("labels", 403, "insufficient_scope"),
    ):
        found, headers, answer = plane.call("GET", "/v2", authorization=f"Bearer {token}")
        assert (found, headers["www-authenticate"]) == (status, f'Bearer realm="modelyard", error="{error}"')
        message = json.loads(answer)["error"]
        assert message.startswith(
            "This token is not known in test:" if status == 401 else "This token may not invoke"
        )


def test_no_token_is_written_to_the_log(shared: Plane):
    shared.call("POST", INVOKE, ONE, authorization="Bearer a-secret-that-is-wrong")
    shared.x(-1.0)
    assert TOKEN not in shared.log("gateway") and "a-secret-that-is-wrong" not in shared.log("gateway")
    assert TOKEN not in shared.log("v1")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:9"])
def test_hosts_of_this_machine_are_answered(shared: Plane, host: str):
    assert shared.call("GET", "/v2", host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::2]"])
def test_foreign_hosts_are_refused(shared: Plane, host: str):
    assert shared.call("GET", "/v2", host=host)[0] == 403
    assert shared.call("POST", INVOKE, ONE, host=host)[0] == 403


@pytest.mark.parametrize("host", ["[::1]evil.example", "localhost:evil", "127.0.0.1:80:80"])
def test_hosts_are_parsed_exactly(shared: Plane, host: str):
    assert shared.call("GET", "/v2", host=host)[0] == 403


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_by_address_need_no_name(shared: Plane, path: str):
    """A balancer's or a kubelet's probe comes with the address of this machine as its Host."""
    assert shared.call("GET", path, host="10.0.0.5:8602", authorization="")[0] == 200
    assert shared.call("POST", path)[0] == 405


@pytest.mark.parametrize("header", [{"origin": "http://localhost:3000"}, {"sec_fetch_site": "cross-site"}])
def test_web_pages_are_refused_and_no_cors_is_answered(shared: Plane, header: dict[str, str]):
    status, headers, _ = shared.call("POST", INVOKE, ONE, **header)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]
    assert shared.call("OPTIONS", INVOKE)[0] == 405


def test_errors_have_the_shape_of_their_protocol(shared: Plane):
    status, _, answer = shared.call("POST", "/endpoints/nothing/invocations", ONE)
    assert status == 404 and json.loads(answer)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    status, _, answer = shared.call("POST", "/endpoints/nothing/v2/models/m/infer", ONE)
    assert status == 404 and list(json.loads(answer)) == ["error"]
    status, headers, _ = shared.call("GET", INVOKE)
    assert status == 405 and headers["allow"] == "POST"
    status, _, answer = shared.call("GET", "/endpoints/m/nothing")
    assert status == 404 and "nothing" in json.loads(answer)["message"]


def test_a_model_that_raises_answers_500_with_an_id_found_in_its_log(shared: Plane):
    status, _, answer = shared.x(-1.0)
    assert status == 500 and "the inside of the model" not in json.dumps(answer)
    identity = answer["message"].partition("id ")[2].partition(")")[0]
    assert len(identity) == 12
    log = shared.log("v1")
    assert f"error {identity}" in log and "the inside of the model" in log


def test_bad_input_names_the_field_and_never_echoes_a_row(shared: Plane):
    status, _, answer = shared.predict({"dataframe_split": {"columns": ["x", "secret"], "data": [["no", "4711"]]}})
    assert status == 400 and answer["error_code"] == "BAD_REQUEST"
    assert "'x'" in answer["message"] and "expected a number" in answer["message"]
    assert "4711" not in answer["message"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ping", b"\n"),
        ("health", b"\n"),
        ("version", b"1"),
        ("v2/health/live", b'{"live":true}'),
        ("v2/health/ready", b'{"ready":true,"live":true}'),
        ("v2/models/m/ready", b'{"name":"m","ready":true}'),
        ("v2/models/m/versions/1/ready", b'{"name":"m","ready":true}'),
    ],
)
def test_health_is_asked_of_the_worker(shared: Plane, path: str, expected: bytes):
    status, _, answer = shared.call("GET", f"/endpoints/m/{path}")
    assert (status, answer) == (200, expected)


def test_open_inference_by_http(shared: Plane):
    tensor = {"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1, 2.5]}
    body = json.dumps({"id": "mine", "inputs": [tensor]}).encode()
    status, _, answer = shared.call("POST", "/endpoints/m/v2/models/m/infer", body)
    assert status == 200
    assert json.loads(answer) == {
        "model_name": "m",
        "model_version": "1",
        "id": "mine",
        "outputs": [{"name": "predict", "shape": [2], "datatype": "FP64", "data": [2.0, 5.0]}],
    }


@pytest.mark.parametrize("path", ["v2/models/other/infer", "v2/models/m/versions/99/infer", "v2x/infer"])
def test_open_inference_of_another_model_or_version_is_not_found(shared: Plane, path: str):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}).encode()
    assert shared.call("POST", f"/endpoints/m/{path}", body)[0] == 404


def chunked(body: bytes) -> bytes:
    head = f"POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
    return f"{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


def answered(plane: Plane, request: bytes) -> bytes:
    """The first bytes of the answer to a request written by hand."""
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as raw:
        raw.sendall(request)
        return raw.recv(12)


def test_a_body_over_the_limit_is_413_declared_or_chunked(shared: Plane):
    assert shared.call("POST", INVOKE, b" " * 2001)[0] == 413
    assert answered(shared, chunked(b" " * 300_000)) == b"HTTP/1.1 413"
    assert answered(shared, chunked(ONE)) == b"HTTP/1.1 200"
    assert shared.x(1.0)[0] == 200


def test_a_small_chunked_body_over_the_limit_is_413(shared: Plane):
    assert answered(shared, chunked(ONE + b" " * 2001)) == b"HTTP/1.1 413"


def test_a_long_path_is_refused_with_an_error_that_says_so(shared: Plane):
    status, _, answer = shared.call("GET", "/endpoints/m/" + "a" * 65_536)
    assert status in (400, 404, 414) and json.loads(answer)["message"]


def test_a_request_whose_caller_went_away_in_the_middle_is_not_predicted(shared: Plane):
    before = shared.counted("v1")["requests"]
    body = b"x\n1\n2\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as raw:
        raw.sendall(
            f"POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
            f"content-type: text/csv\r\ncontent-length: 1000\r\n\r\n".encode()
            + body
        )
    # what follows on the same worker is answered after it
    wait_until(lambda: shared.x(1.0)[0] == 200, "a whole request")
    shared.x(1.0)
    assert shared.counted("v1")["requests"] == before + 2


def test_counters_tell_kinds_of_errors_apart(shared: Plane):
    before = shared.counted("v1")
    shared.x(1.0)
    shared.x(-1.0)
    shared.predict({"inputs": {"y": [1.0]}})
    shared.call("GET", "/endpoints/m/ping")
    after = shared.counted("v1")
    gained = {name: after[name] - before[name] for name in ("requests", "errors", "client_errors", "retries")}
    assert gained == {"requests": 3, "errors": 1, "client_errors": 1, "retries": 0}
    assert sum(after["latency_ms"]["counts"]) == after["requests"]


def test_requests_that_name_their_deployment_are_counted_apart_too(shared: Plane):
    before = shared.counted("v1")
    shared.x(1.0)
    shared.x(1.0, x_modelyard_version="1")
    shared.x(-1.0, x_modelyard_deployment="v1")
    after = shared.counted("v1")
    names = ("requests", "errors", "named_requests", "named_errors")
    assert [after[name] - before[name] for name in names] == [3, 1, 2, 1]
    assert sum(after["latency_ms"]["named"]) == after["named_requests"]


def test_input_that_the_version_does_not_take_is_counted_apart(shared: Plane):
    before = shared.counted("v1")
    shared.predict({"inputs": {"y": [1.0]}})
    shared.predict({"inputs": {"x": ["text"]}}, x_modelyard_version="1")
    for rubbish in (b"{", b'{"rows": []}'):
        assert shared.call("POST", INVOKE, rubbish)[0] == 400
    typed = shared.call("POST", "/endpoints/m/predict", b'{"y": 1}', content_type="application/json")
    assert typed[0] == 422
    after = shared.counted("v1")
    names = ("client_errors", "declined", "named_declined", "errors")
    assert [after[name] - before[name] for name in names] == [5, 3, 1, 0]
    told = f'modelyard_declined_total{{endpoint="m",deployment="v1",version="1"}} {after["declined"]}'
    assert told in shared.call("GET", "/metrics")[2].decode()


def test_metrics_are_served_to_token_holders(shared: Plane):
    shared.x(1.0)
    status, headers, answer = shared.call("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'modelyard_requests_total{endpoint="m",deployment="v1",version="1"}' in answer
    assert shared.call("GET", "/metrics", authorization="")[0] == 401


def test_sockets_are_for_their_owner_alone(shared: Plane):
    for name in ("admin", "v1"):
        assert Path(shared.socket(name)).stat().st_mode & 0o777 == 0o600


def test_the_gateway_needs_little_memory(shared: Plane):
    for _ in range(50):
        shared.x(1.0)
    lines = Path(f"/proc/{shared.processes['gateway'].pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    assert resident < 80 * 1024


def test_what_no_deployment_was_asked_is_counted_by_endpoint_and_status(shared: Plane):
    def told() -> dict[tuple[str, str], float]:
        text = shared.call("GET", "/metrics")[2].decode()
        found = re.findall(r'^modelyard_refused_total{endpoint="(.*)",status="(\d+)"} (\d+)$', text, re.MULTILINE)
        return {(endpoint, status): float(count) for endpoint, status, count in found}

    before = told()
    shared.call("POST", INVOKE, ONE, authorization="Bearer nobody")
    shared.call("POST", "/endpoints/m/nothing", ONE)
    shared.call("GET", "/nowhere")
    after = told()
    for key in (("m", "401"), ("m", "404"), ("", "404")):
        assert after[key] == before.get(key, 0) + 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_bodies_are_unpacked_within_the_limit(shared: Plane, encoding: str):
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    headers = {"content_type": JSON, "content_encoding": encoding}
    status, _, answer = shared.call("POST", INVOKE, pack(ONE), **headers)
    assert status == 200 and json.loads(answer) == {"predictions": [2.0]}
    assert shared.call("POST", INVOKE, pack(b" " * 7_000_000), **headers)[0] == 413
    assert shared.call("POST", INVOKE, pack(ONE)[:-3], **headers)[0] == 400
    assert shared.call("POST", INVOKE, ONE, **headers)[0] == 400
    status, found, _ = shared.call("POST", INVOKE, ONE, content_type=JSON, content_encoding="br")
    assert status == 415 and found["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "trace", ["00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01"]
)
def test_a_trace_without_an_id_is_none(shared: Plane, trace: str):
    assert "traceparent" not in shared.x(1.5, traceparent=trace)[1]


def test_before_any_routing_it_is_alive_and_not_ready(plane: Plane):
    plane.gateway()
    assert plane.call("GET", "/health")[0] == 200
    assert plane.call("GET", "/ready")[0] == 503
    status, headers, _ = plane.call("POST", INVOKE, ONE)
    assert status == 503 and headers["retry-after"]


def test_a_damaged_routing_file_leaves_the_last_good_one_in_force(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    plane.gateway()
    (plane.folder / "routing.json").write_text('{"environment": "test", "revi')
    wait_until(lambda: plane.stats()["error"], "the gateway to see the damage")
    assert plane.x(1.0)[0] == 200
    plane.reroute(plane.target("v1"))
    assert plane.stats()["error"] == "" and plane.x(1.0)[0] == 200


def test_weights_split_the_traffic_and_a_header_addresses_one_deployment(plane: Plane, tmp_path: Path, gate: Path):
    plane.worker("v1", odd_model(tmp_path / "one", gate, 1.0), 1)
    plane.worker("v2", odd_model(tmp_path / "two", gate, 10.0), 2)
    plane.worker("v3", odd_model(tmp_path / "three", gate, 100.0), 3)
    plane.route(plane.target("v1", 0.9), plane.target("v2", 0.1, 2), plane.target("v3", 0.0, 3))
    plane.gateway()
    answers = [plane.x(1.0)[2]["predictions"][0] for _ in range(40)]
    assert answers.count(1.0) == 36 and answers.count(10.0) == 4
    for name, expected in (("v1", 1.0), ("v2", 10.0), ("v3", 100.0)):
        status, headers, answer = plane.x(1.0, x_modelyard_deployment=name)
        assert (status, headers["x-modelyard-deployment"], answer) == (200, name, {"predictions": [expected]})
    assert plane.x(1.0, x_modelyard_deployment="v9")[0] == 404


def test_a_shadow_is_asked_and_neither_delays_nor_fails_an_answer(
    plane: Plane, odd: Path, tmp_path: Path, gate: Path
):
    plane.worker("v1", odd)
    plane.worker("v2", odd_model(tmp_path / "two", gate, 3.0), 2)
    plane.route(plane.target("v1"), shadow=(plane.target("v2", version=2), plane.target("gone", version=3)))
    plane.gateway()
    assert [plane.x(float(value))[2]["predictions"] for value in range(5)] == [[v * 2.0] for v in range(5)]
    wait_until(lambda: plane.counted("v2")["shadow_requests"] == 5, "the shadow to be asked")
    wait_until(lambda: plane.counted("gone")["shadow_errors"] == 5, "the missing shadow to be counted")
    assert plane.counted("v2")["requests"] == 0 and plane.counted("v1")["errors"] == 0
    plane.predict({"inputs": {"y": [1.0]}})
    wait_until(lambda: plane.counted("v2")["shadow_declined"] == 1, "its own refusal to be counted")


def test_a_slow_answer_is_504_and_the_limit_of_concurrency_429(plane: Plane, odd: Path, gate: Path):
    process = plane.worker("v1", odd)
    plane.route(plane.target("v1"), limits={"timeout_s": 4.0, "max_concurrency": 1})
    plane.gateway()
    wait_until(lambda: plane.x(1.0)[0] == 200, "the worker's first, slow prediction")
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as raw:
        slow = b'{"inputs": {"x": [-3]}}'
        raw.sendall(
            f"POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
            f"content-length: {len(slow)}\r\n\r\n".encode()
            + slow
        )
        wait_until(Path(f"{gate}.waiting").exists, "the model to be busy")
        status, headers, answer = plane.x(1.0)
        assert status == 429 and headers["retry-after"] and answer["error_code"] == "REQUEST_LIMIT_EXCEEDED"
        assert raw.recv(64).startswith(b"HTTP/1.1 504")
    gate.touch()
    wait_until(lambda: plane.x(1.0)[0] == 200, "the worker to be free again")
    assert process.poll() is None and plane.counted("v1")["errors"] >= 1


def test_a_deployment_without_workers_is_503(plane: Plane):
    plane.route(plane.target("v1", sockets=[]))
    plane.gateway()
    status, headers, _ = plane.x(1.0)
    assert status == 503 and headers["retry-after"]


def test_a_deployment_without_workers_is_503_when_addressed_too(plane: Plane):
    plane.route(plane.target("v1", sockets=[]))
    plane.gateway()
    status, _, answer = plane.call("POST", INVOKE, ONE, x_modelyard_deployment="v1")
    assert status == 503 and json.loads(answer)["message"]


def test_an_endpoint_removed_while_a_body_arrives_is_an_error_that_says_so(plane: Plane, odd: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    plane.gateway()
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as raw:
        raw.sendall(
            f"POST {INVOKE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
            f"content-length: {len(ONE)}\r\n\r\n".encode()
            + ONE[:5]
        )
        plane.x(1.0)  # the first request's head was read before this one was answered
        revision = plane.route_endpoints({})
        wait_until(lambda: plane.stats().get("revision") == revision, "the gateway to follow the routing")
        raw.sendall(ONE[5:])
        assert not raw.recv(64).startswith(b"HTTP/1.1 500")


def test_a_log_folder_that_cannot_be_made_does_not_stop_the_routing(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"))
    plane.gateway()
    (tmp_path / "file").touch()
    plane.reroute(plane.target("v1"), log=tmp_path / "file" / "log")
    revision = plane.route(plane.target("v1"))
    wait_until(lambda: plane.stats().get("revision") == revision, "the gateway to follow the routing")


def test_a_port_in_use_is_one_clear_error(plane: Plane):
    plane.gateway()
    second = plane.launch_gateway("second", plane.port)
    assert second.wait(60) != 0
    log = plane.log("second")
    assert "address already in use" in log and "Traceback" not in log
    assert plane.call("GET", "/health")[0] == 200


def test_a_second_gateway_that_cannot_start_leaves_the_first_ones_admin_socket(plane: Plane):
    first = plane.gateway()
    assert plane.stats()["started_at"]
    assert plane.launch_gateway("second", plane.port).wait(60) != 0
    assert first.poll() is None
    assert plane.stats()


def test_a_second_gateway_that_cannot_start_leaves_the_first_ones_log(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"), log=tmp_path / "log")
    plane.gateway()
    plane.x(1.0)
    (segment,) = wait_until(lambda: list((tmp_path / "log").glob("*.open")), "the log, which follows the answer")
    assert plane.launch_gateway("second", plane.port).wait(60) != 0
    assert segment.exists()


def test_sigterm_ends_it_at_once_and_seals_the_log(plane: Plane, odd: Path, tmp_path: Path):
    plane.worker("v1", odd)
    plane.route(plane.target("v1"), log=tmp_path / "log")
    process = plane.gateway()
    assert plane.x(1.0)[0] == 200
    wait_until(lambda: list((tmp_path / "log").glob("*.open")), "the log, which follows the answer")
    process.terminate()
    assert process.wait(10) in (0, -15)
    assert not list((tmp_path / "log").glob("*.open")) and len(list((tmp_path / "log").glob("*.segment"))) == 1


def test_a_client_ca_without_a_certificate_is_refused(tmp_path: Path):
    command = ["--environment", "e", "--folder", str(tmp_path), "--port", "0", "--admin-socket", str(tmp_path / "a")]
    done = subprocess.run(
        [sys.executable, "-m", "modelyard.deliver.serving.gateway", *command, "--client-ca", "ca.pem"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "need --tls-certificate" in done.stderr
