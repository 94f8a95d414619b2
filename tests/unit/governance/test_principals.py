"""People and services: who may grant what to whom, and who stays."""

import tempfile
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from modelyard.domain.errors import AlreadyExists, Conflict, Forbidden, Invalid, ModelyardError, NotFound
from modelyard.domain.permissions import Role
from modelyard.events import audit, log
from modelyard.governance import principals, tokens
from modelyard.kit.hashing import sha256_hex
from modelyard.store.database import Store


def add(store: Store, name: str, *roles: str, actor: str = "owner", **more: Any) -> None:
    store.write_now(
        lambda conn: principals.create(conn, name, more.pop("kind", "person"), list(roles), actor=actor, **more)
    )


def roles_of(store: Store, name: str) -> set[str]:
    return {str(role) for role in store.read_now(lambda conn: principals.get(conn, name)).roles}


def set_roles(store: Store, name: str, *roles: str, actor: str) -> None:
    store.write_now(lambda conn: principals.set_roles(conn, name, list(roles), actor=actor))


def test_nobody_edits_their_own_grants(store: Store) -> None:
    add(store, "mona", "mlops")
    with pytest.raises(Forbidden, match="own grants"):
        set_roles(store, "mona", "approver", actor="mona")
    with pytest.raises(Forbidden, match="own grants"):
        set_roles(store, "owner", "admin", "approver", actor="owner")


def test_a_service_does_not_edit_the_grants_of_the_person_behind_it(store: Store) -> None:
    add(store, "mona", "mlops")
    add(store, "robot", "mlops", kind="service", behind="mona")
    with pytest.raises(Forbidden, match="own grants"):
        set_roles(store, "mona", "approver", actor="robot")


def test_a_person_gives_their_service_no_more_than_they_hold(store: Store) -> None:
    add(store, "mona", "mlops")
    add(store, "robot", "service-ci", actor="mona", kind="service")
    with pytest.raises(Forbidden, match="acts for mona"):
        set_roles(store, "robot", "approver", actor="mona")
    set_roles(store, "robot", "auditor", actor="mona")
    assert roles_of(store, "robot") == {"auditor"}


def test_a_service_stands_for_its_maker(store: Store) -> None:
    add(store, "mona", "mlops")
    add(store, "robot", "service-ci", actor="mona", kind="service")
    add(store, "child", "service-ci", actor="robot", kind="service")
    assert store.read_now(lambda conn: principals.get(conn, "child")).behind == "mona"


@pytest.mark.parametrize("behind", ["nobody-there", "robot"])
def test_behind_a_service_is_a_person_of_the_yard(store: Store, behind: str) -> None:
    add(store, "robot", "service-ci", kind="service")
    with pytest.raises(Invalid, match="not a person"):
        add(store, "other", "service-ci", kind="service", behind=behind)


def test_a_person_has_nobody_behind(store: Store) -> None:
    with pytest.raises(Invalid, match="Only a service"):
        add(store, "ana", "data-scientist", behind="owner")


@pytest.mark.parametrize("name", ["", "a b", "../x", "modelyard", "x" * 101, "a/b"])
def test_bad_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(Invalid):
        add(store, name, "auditor")


def test_a_name_is_never_used_twice(store: Store) -> None:
    add(store, "ana", "auditor")
    store.write_now(lambda conn: principals.disable(conn, "ana", actor="owner"))
    with pytest.raises(AlreadyExists):
        add(store, "ana", "admin")


@pytest.mark.parametrize("kind", ["robot", "", "Person"])
def test_a_kind_is_person_or_service(store: Store, kind: str) -> None:
    with pytest.raises(Invalid, match="kind"):
        add(store, "x", "auditor", kind=kind)


def test_only_an_admin_makes_or_changes_an_admin(store: Store) -> None:
    add(store, "mona", "mlops")
    with pytest.raises(Forbidden, match="admin"):
        add(store, "eve", "admin", actor="mona")
    with pytest.raises(Forbidden, match="admin"):
        set_roles(store, "owner", "auditor", actor="mona")
    with pytest.raises(Forbidden, match="admin"):
        store.write_now(lambda conn: principals.disable(conn, "owner", actor="mona"))


def test_the_last_admin_stays(store: Store) -> None:
    add(store, "ada", "admin")
    add(store, "robot", "admin", kind="service")
    set_roles(store, "ada", "auditor", actor="owner")
    with pytest.raises(Conflict, match="last admin"):
        set_roles(store, "owner", "auditor", actor="robot2")  # the platform itself
    with pytest.raises(Conflict, match="last admin"):
        store.write_now(lambda conn: principals.disable(conn, "owner", actor="modelyard"))


def test_a_disabled_principal_is_gone_with_its_tokens(store: Store) -> None:
    add(store, "ana", "mlops")
    secrets = [store.write_now(lambda conn: tokens.issue(conn, "ana", actor="ana")) for _ in range(2)]
    digests = {sha256_hex(secret.encode()) for secret in secrets}
    revoked = store.write_now(lambda conn: principals.disable(conn, "ana", actor="owner"))
    assert set(revoked) == digests
    for digest in digests:
        assert store.read_now(lambda conn, digest=digest: tokens.principal_of(conn, digest)) is None
    assert not digests & set(store.read_now(lambda conn: tokens.invokers(conn, "production")))
    with pytest.raises(NotFound):
        store.write_now(lambda conn: tokens.issue(conn, "ana", actor="owner"))


def test_enabling_brings_no_old_token_back(store: Store) -> None:
    add(store, "ana", "mlops")
    secret = store.write_now(lambda conn: tokens.issue(conn, "ana", actor="ana"))
    store.write_now(lambda conn: principals.disable(conn, "ana", actor="owner"))
    store.write_now(lambda conn: principals.enable(conn, "ana", actor="owner"))
    assert roles_of(store, "ana") == {"mlops"}
    digest = sha256_hex(secret.encode())
    assert store.read_now(lambda conn: tokens.principal_of(conn, digest)) is None


def test_nobody_disables_themselves_and_the_unknown_is_named(store: Store) -> None:
    with pytest.raises(Forbidden):
        store.write_now(lambda conn: principals.disable(conn, "owner", actor="owner"))
    with pytest.raises(NotFound, match="ghost"):
        store.write_now(lambda conn: principals.disable(conn, "ghost", actor="owner"))
    with pytest.raises(Conflict):
        store.write_now(lambda conn: principals.enable(conn, "owner", actor="owner"))


def test_every_change_is_an_event_with_before_and_after(store: Store) -> None:
    add(store, "ana", "auditor")
    set_roles(store, "ana", "mlops", actor="owner")
    (event,) = store.read_now(lambda conn: log.read(conn, types=["principal.changed"]))
    assert event.actor == "owner" and event.data == {"before": ["auditor"], "after": ["mlops"]}


class Offices(RuleBasedStateMachine):
    """People and services grant, change and disable each other at random; the promises hold after every act."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="yard-")
        self.store = Store(f"sqlite:///{self.folder.name}/yard.db")
        self.count = 0

    @initialize(target=names)
    def founded(self) -> str:
        self.store.write_now(lambda conn: principals.create(conn, "owner", "person", ["admin"], actor="modelyard"))
        return "owner"

    def attempt(self, work: Any) -> bool:
        try:
            self.store.write_now(work)
        except ModelyardError:
            return False
        return True

    def holds(self, actor: str, permission: str) -> bool:
        found = self.store.read_now(lambda conn: principals.find(conn, actor))
        return found is not None and found.may(permission)  # type: ignore[arg-type]

    @rule(target=names, actor=names, role=st.sampled_from(sorted(Role)), service=st.booleans())
    def hire(self, actor: str, role: Role, service: bool) -> str:
        self.count += 1
        name = f"p{self.count}"
        kind = "service" if service else "person"
        if self.holds(actor, "principals:write"):
            self.attempt(lambda conn: principals.create(conn, name, kind, [role], actor=actor))
        return name

    @rule(actor=names, name=names, role=st.sampled_from(sorted(Role)))
    def regrade(self, actor: str, name: str, role: Role) -> None:
        if not self.holds(actor, "principals:write"):
            return
        before = self.store.read_now(lambda conn: principals.find(conn, name))
        done = self.attempt(lambda conn: principals.set_roles(conn, name, [role], actor=actor))
        if done:
            editor = self.store.read_now(lambda conn: principals.get(conn, actor))
            assert actor != name and editor.behind != name
            assert before is not None
            if Role.ADMIN in before.roles or role is Role.ADMIN:
                assert Role.ADMIN in editor.roles

    @rule(actor=names, name=names)
    def fire(self, actor: str, name: str) -> None:
        if self.holds(actor, "principals:write"):
            self.attempt(lambda conn: principals.disable(conn, name, actor=actor))

    @invariant()
    def somebody_runs_the_yard(self) -> None:
        held = self.store.read_now(principals.every)
        assert not held or any(Role.ADMIN in item.roles and item.kind == "person" for item in held)

    @invariant()
    def the_chain_holds(self) -> None:
        assert self.store.read_now(audit.verify).intact

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestOffices = Offices.TestCase
TestOffices.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
