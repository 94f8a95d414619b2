"""Tokens: kept as digests, ending when they should, issued by whom they may be."""

import pytest
from sqlalchemy import select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.governance import principals, tokens
from modelyard.kit.clock import now_ms
from modelyard.kit.hashing import sha256_hex
from modelyard.store.database import Store
from modelyard.store.tables.identity import tokens as rows


def add(store: Store, name: str, *roles: str, kind: str = "person") -> None:
    store.write_now(lambda conn: principals.create(conn, name, kind, list(roles), actor="owner"))


def issue(
    store: Store, name: str, kind: str = tokens.API, actor: str = "owner", lifetime_ms: int | None = None
) -> str:
    return store.write_now(lambda conn: tokens.issue(conn, name, kind, actor=actor, lifetime_ms=lifetime_ms))


def whose(store: Store, secret: str) -> str | None:
    digest = sha256_hex(secret.encode())
    found = store.read_now(lambda conn: tokens.principal_of(conn, digest))
    return found.name if found else None


def token_id(store: Store, secret: str) -> str:
    digest = sha256_hex(secret.encode())
    return store.read_now(lambda conn: conn.execute(select(rows.c.id).where(rows.c.digest == digest)).scalar_one())


def test_the_secret_is_stored_nowhere(store: Store) -> None:
    secret = issue(store, "owner")
    held = store.read_now(lambda conn: [str(tuple(row)) for row in conn.execute(select(rows))])
    assert len(secret) >= 43 and not any(secret in line for line in held)
    assert any(sha256_hex(secret.encode()) in line for line in held)
    assert whose(store, secret) == "owner"


def test_a_token_ends_when_its_time_is_over(store: Store) -> None:
    secret = issue(store, "owner", lifetime_ms=60_000)
    assert whose(store, secret) == "owner"
    store.write_now(lambda conn: conn.execute(update(rows).values(expires_at=now_ms() - 1)))
    assert whose(store, secret) is None
    assert store.read_now(lambda conn: tokens.invokers(conn, "production")) == {}


@pytest.mark.parametrize("lifetime", [0, -1])
def test_a_lifetime_is_in_the_future(store: Store, lifetime: int) -> None:
    with pytest.raises(Invalid):
        issue(store, "owner", lifetime_ms=lifetime)


def test_a_revoked_token_is_worthless_at_once(store: Store) -> None:
    secret = issue(store, "owner")
    identity = token_id(store, secret)
    store.write_now(lambda conn: tokens.revoke(conn, identity, actor="owner"))
    assert whose(store, secret) is None
    with pytest.raises(Conflict):
        store.write_now(lambda conn: tokens.revoke(conn, identity, actor="owner"))
    with pytest.raises(NotFound):
        store.write_now(lambda conn: tokens.revoke(conn, "0" * 32, actor="owner"))


def test_a_one_time_token_signs_in_once_and_does_nothing_else(store: Store) -> None:
    secret = issue(store, "owner", tokens.ONE_TIME)
    assert whose(store, secret) is None
    session = store.write_now(lambda conn: tokens.open_session(conn, secret))
    assert session is not None and whose(store, session) == "owner"
    assert store.write_now(lambda conn: tokens.open_session(conn, secret)) is None


def test_a_disabled_person_does_not_sign_in(store: Store) -> None:
    add(store, "ana", "auditor")
    secret = issue(store, "ana", tokens.ONE_TIME)
    store.write_now(lambda conn: principals.disable(conn, "ana", actor="owner"))
    assert store.write_now(lambda conn: tokens.open_session(conn, secret)) is None


def test_only_an_admin_issues_a_token_that_decides_in_anothers_name(store: Store) -> None:
    add(store, "mona", "mlops")
    add(store, "boris", "approver")
    with pytest.raises(Forbidden, match="boris"):
        issue(store, "boris", actor="mona")
    with pytest.raises(Forbidden, match="owner"):
        issue(store, "owner", actor="mona")
    assert whose(store, issue(store, "boris", actor="boris")) == "boris"
    assert whose(store, issue(store, "boris", actor="owner")) == "boris"


def test_invokers_are_those_who_may_in_that_environment(store: Store) -> None:
    add(store, "ana", "data-scientist")
    add(store, "otto", "mlops")
    add(store, "audrey", "auditor")
    digests = {name: sha256_hex(issue(store, name).encode()) for name in ("ana", "otto", "audrey")}
    assert set(store.read_now(lambda conn: tokens.invokers(conn, "production"))) == {digests["otto"]}
    assert set(store.read_now(lambda conn: tokens.invokers(conn, "staging"))) == {digests["ana"], digests["otto"]}
    assert store.read_now(tokens.lasting) == set(digests.values())
