"""The HTTP surface of a real server: who gets in, what is refused, how errors read."""

import json
import socket
import stat
from typing import Any

import pytest
import urllib3

from modelyard.client.api import Client
from modelyard.domain.errors import Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from tests.conftest import RunningServer

pool = urllib3.PoolManager(retries=False)


def ask(
    server: RunningServer,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes | None = None,
    **headers: str,
) -> urllib3.BaseHTTPResponse:
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        named["authorization"] = f"Bearer {token}"
    return pool.request(method, server.url + path, headers=named, body=body)


def test_the_owner_is_known(server: RunningServer) -> None:
    assert server.client.call("GET", "/api/v1/me") == {"name": "owner", "kind": "person", "roles": ["admin"]}


def test_credentials_are_readable_by_their_owner_alone(server: RunningServer) -> None:
    mode = stat.S_IMODE((server.home / "credentials.json").stat().st_mode)
    assert mode == 0o600


def test_without_a_token_every_route_that_is_not_public_is_closed(server: RunningServer) -> None:
    document = json.loads(ask(server, "GET", "/api/v1/openapi.json").data)
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["x-permission"] == "public":
                continue
            concrete = path.replace("{", "").replace("}", "")
            answer = ask(server, method.upper(), concrete, body=b"{}", content_type="application/json")
            assert answer.status == 401, (method, path)
            checked += 1
    assert checked > 10


def test_a_wrong_token_is_told_what_to_do(server: RunningServer) -> None:
    with pytest.raises(Unauthenticated, match="token create"):
        Client.connect(server.url, "wrong").call("GET", "/api/v1/me")


def test_a_revoked_token_is_worthless_at_once(server: RunningServer) -> None:
    visitor = server.as_principal("visitor", "auditor")
    assert visitor.call("GET", "/api/v1/me")["name"] == "visitor"
    (held,) = [t for t in visitor.call("GET", "/api/v1/tokens")["tokens"] if t["principal"] == "visitor"]
    server.client.call("DELETE", f"/api/v1/tokens/{held['id']}")
    with pytest.raises(Unauthenticated):
        visitor.call("GET", "/api/v1/me")


def test_a_role_that_does_not_grant_it_is_named(server: RunningServer) -> None:
    scientist = server.as_principal("scientist", "data-scientist")
    with pytest.raises(Forbidden, match="scientist \\(data-scientist\\) has no permission principals:write"):
        scientist.call("POST", "/api/v1/principals", body={"name": "x", "roles": ["admin"]})
    with pytest.raises(Forbidden):
        scientist.call("POST", "/api/v1/tokens", body={"principal": "owner"})


def test_nobody_edits_their_own_grants_nor_makes_an_admin(server: RunningServer) -> None:
    keeper = server.as_principal("keeper", "mlops")
    with pytest.raises(Forbidden, match="own grants"):
        keeper.call("PUT", "/api/v1/principals/keeper/roles", body={"roles": ["approver"]})
    with pytest.raises(Forbidden, match="admin"):
        keeper.call("POST", "/api/v1/principals", body={"name": "friend", "roles": ["admin"]})
    with pytest.raises(Forbidden, match="admin"):
        keeper.call("POST", "/api/v1/tokens", body={"principal": "owner"})


@pytest.mark.parametrize(
    ("path", "body", "error", "words"),
    [
        ("/api/v1/principals", {"name": "y"}, Invalid, "roles"),
        ("/api/v1/principals", {"name": "y", "roles": ["king"]}, Invalid, "king"),
        ("/api/v1/principals", {"name": 7, "roles": []}, Invalid, "str"),
        ("/api/v1/principals", {"name": "y", "roles": ["auditor"], "rolles": 1}, Invalid, "rolles"),
        ("/api/v1/tokens", {"principal": "nobody-here"}, NotFound, "nobody-here"),
        ("/api/v1/principals", {"name": "x" * (5 << 20), "roles": []}, TooLarge, "larger"),
    ],
)
def test_bad_input_is_named(server: RunningServer, path: str, body: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        server.client.call("POST", path, body=body)


def test_bodies_are_json_and_not_too_deep(server: RunningServer) -> None:
    for body, media in (
        (b"name=x", "application/x-www-form-urlencoded"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
    ):
        answer = ask(server, "POST", "/api/v1/principals", token=server.token, body=body, content_type=media)
        assert answer.status == 400, body[:10]
        assert "error" in json.loads(answer.data)


def test_foreign_hosts_and_sites_are_refused(server: RunningServer) -> None:
    for headers in ({"host": "evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "http://127.0.0.1:1"}):
        assert ask(server, "GET", "/api/v1/me", token=server.token, **headers).status == 403


def test_nothing_is_shown_to_other_origins(server: RunningServer) -> None:
    headers = ask(server, "GET", "/health").headers
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_server_listens_on_loopback_only(server: RunningServer) -> None:
    port = int(server.url.rpartition(":")[2])
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, port)) != 0


def test_the_document_describes_every_native_route_with_its_permission(server: RunningServer) -> None:
    document = server.client.call("GET", "/api/v1/openapi.json")
    assert document["openapi"] == "3.1.0"
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation["x-permission"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))


def test_no_secret_is_in_the_log_or_the_events(server: RunningServer) -> None:
    made = server.client.call("POST", "/api/v1/tokens", body={"label": "checked"})
    exported = server.client.download("/api/v1/audit/export").decode()
    assert made["token"] not in exported
    assert made["token"] not in (server.project / "server.log").read_text()
    assert made["token"].encode() not in (server.home / "yard.db").read_bytes()


def test_the_chain_of_a_living_server_is_intact(server: RunningServer) -> None:
    assert server.client.call("GET", "/api/v1/audit/verification")["intact"]
