"""Hosts are parsed, never matched by wildcard; other sites and other ports are foreign."""

import pytest
from starlette.datastructures import Headers

from modelyard.domain.errors import Forbidden
from modelyard.server.guard import LOOPBACK, check_origin, host_name, secret_in


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8600", "localhost"),
        ("127.0.0.1:8600", "127.0.0.1"),
        ("[::1]:8600", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::1", ""),
        ("[::1]evil", ""),
        ("localhost:evil", ""),
        ("localhost.evil.example", "localhost.evil.example"),
        ("127.0.0.1.evil.example:80", "127.0.0.1.evil.example"),
    ],
)
def test_host_names_are_exact(header: str, name: str) -> None:
    assert host_name(header) == name


def refused(method: str, **headers: str) -> bool:
    named = {"host": "127.0.0.1:8600"} | {k.replace("_", "-"): v for k, v in headers.items()}
    try:
        check_origin(method, Headers(named), LOOPBACK)
    except Forbidden:
        return True
    return False


def test_foreign_requests_are_refused_on_every_method() -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert refused(method, host="evil.example")
        assert refused(method, host="")
        assert refused(method, sec_fetch_site="cross-site")
        assert refused(method, sec_fetch_site="same-site")
        assert refused(method, origin="http://127.0.0.1:9999")
        assert refused(method, origin="null")
        assert not refused(method)
        assert not refused(method, sec_fetch_site="same-origin", origin="http://127.0.0.1:8600")


def test_following_a_link_is_allowed_posting_a_form_is_not() -> None:
    assert not refused("GET", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert refused("POST", sec_fetch_site="cross-site", sec_fetch_mode="navigate")


def test_where_a_token_may_stand() -> None:
    assert secret_in(Headers({"authorization": "Bearer abc"})) == "abc"
    assert secret_in(Headers({"authorization": "Basic dXNlcjphYmM="})) == "abc"
    assert secret_in(Headers({"authorization": "Basic !!!"})) is None
    assert secret_in(Headers({"cookie": "modelyard_session=abc; other=1"})) == "abc"
    assert secret_in(Headers({})) is None
