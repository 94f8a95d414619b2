"""Approvals: who may, how many, bound to what; every rule on a real database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from modelyard.domain.errors import Conflict, Forbidden, Invalid, NotFound
from modelyard.domain.project import parse_project
from modelyard.events import log
from modelyard.governance import principals
from modelyard.kit.clock import now_ms
from modelyard.registry import approvals, break_glass, standing, versions
from modelyard.store.tables.events import jobs
from modelyard.store.tables.registry import approvals as rows
from tests.unit.registry.house import PROJECT, House

Open = Callable[..., House]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    held: list[House] = []

    def make(project: str = PROJECT) -> House:
        held.append(House(f"sqlite:///{tmp_path / f'{len(held)}.db'}", project))
        return held[-1]

    yield make
    for house in held:
        house.close()


@pytest.fixture
def house(opened: Open) -> House:
    return opened()


def events(house: House, *types: str) -> list[Any]:
    return house.see(lambda conn: log.read(conn, types=types))


def test_gates_that_pass_ask_people_and_decide_where_the_policy_says_so(house: House) -> None:
    number = house.register()
    assert house.holds(number, "staging") and not house.holds(number)
    assert [item.type for item in events(house, "approval.requested", "version.approved")] == [
        "version.approved",
        "approval.requested",
    ]


def test_gates_that_fail_ask_nobody(house: House) -> None:
    number = house.register(auc=0.6)
    assert not house.holds(number, "staging")
    with pytest.raises(Conflict, match=r"failed its gates: roc_auc 0\.6 < 0\.7"):
        house.decide(number, "boris")


def test_an_approver_approves(house: House) -> None:
    number = house.register()
    given = house.decide(number, "boris")
    assert given.state == "approved" and given.decisions[0].principal == "boris"
    (event,) = [item for item in events(house, "version.approved") if item.data["environment"] == "production"]
    assert event.actor == "boris" and event.data["digest"] == given.digest and event.data["separation_of_duties"]
    assert house.see(lambda conn: log.causes(conn, event.id))[0].type == "version.registered"


@pytest.mark.parametrize("name", ["ana", "mona", "audrey"])
def test_others_do_not_decide(house: House, name: str) -> None:
    number = house.register()
    for verdict in ("approve", "reject"):
        with pytest.raises(Forbidden):
            house.decide(number, name, verdict)
    assert not house.holds(number)


@pytest.mark.parametrize(
    ("registrar", "author"), [("boris", "ana"), ("ana", "boris"), ("boris-robot", "ana"), ("ana", "boris-robot")]
)
def test_nobody_approves_what_they_made_or_their_service_did(house: House, registrar: str, author: str) -> None:
    house.do(lambda conn: principals.set_roles(conn, "boris", ["approver", "ml-engineer"], actor="owner"))
    house.hire("boris-robot", "service-pipeline", kind="service", behind="boris")
    number = house.register(registrar, author)
    with pytest.raises(Forbidden, match="cannot approve"):
        house.decide(number, "boris")
    assert house.decide(number, "clara").state == "approved"


def test_a_disabled_service_still_stands_for_its_person(house: House) -> None:
    house.hire("boris-robot", "service-pipeline", kind="service", behind="boris")
    number = house.register("boris-robot")
    house.do(lambda conn: principals.disable(conn, "boris-robot", actor="owner"))
    with pytest.raises(Forbidden, match="cannot approve"):
        house.decide(number, "boris")


def test_whoever_measured_it_does_not_approve_it(house: House) -> None:
    number = house.register(auc=None)
    house.attach(number, "boris", 0.9)
    with pytest.raises(Forbidden, match="cannot approve"):
        house.decide(number, "boris")


def test_its_maker_may_reject_it(house: House) -> None:
    number = house.register("boris")
    assert house.decide(number, "boris", "reject").state == "rejected"


def test_a_service_never_approves(house: House) -> None:
    house.hire("robot", "approver", kind="service", actor="modelyard")
    number = house.register()
    with pytest.raises(Forbidden, match="services never approve"):
        house.decide(number, "robot")


def test_without_separation_the_maker_approves_and_the_event_says_so(opened: Open) -> None:
    house = opened(PROJECT.replace("approvals = 1", "approvals = 1\nseparation_of_duties = false"))
    number = house.register("owner")
    house.decide(number, "owner")
    assert events(house, "version.approved")[-1].data["separation_of_duties"] is False


def test_n_of_m(opened: Open) -> None:
    house = opened(PROJECT.replace("approvals = 1", "approvals = 2"))
    number = house.register()
    assert house.decide(number, "boris").state == "open"
    with pytest.raises(Conflict, match="already"):
        house.decide(number, "boris")
    assert not house.holds(number)
    assert house.decide(number, "clara").state == "approved"


def test_a_yes_of_somebody_who_lost_the_role_does_not_count(opened: Open) -> None:
    house = opened(PROJECT.replace("approvals = 1", "approvals = 2"))
    number = house.register()
    house.decide(number, "boris")
    house.do(lambda conn: principals.set_roles(conn, "boris", ["auditor"], actor="owner"))
    assert house.decide(number, "clara").state == "open"
    assert house.decide(number, "dora").state == "approved"


def test_an_environment_that_is_declared_later_is_asked_about_by_who_approves(house: House) -> None:
    number, failed = house.register(), house.register(auc=0.6)
    later = '[environments.later]\nseparation_of_duties = false\n[environments.dark]\napproval = "gates"\n'
    house.project = parse_project(PROJECT + later)
    with pytest.raises(Conflict, match="No decision"):
        house.decide(number, "boris", "reject", environment="later")
    with pytest.raises(Conflict, match="failed its gates"):
        house.decide(failed, "boris", environment="later")
    assert house.decide(number, "boris", environment="later").decisions[0].principal == "boris"
    assert house.decide(number, "boris", environment="dark").how == "gates"
    assert house.holds(number, "later") and house.holds(number, "dark")
    with pytest.raises(Conflict, match="No decision"):
        house.decide(number, "clara", environment="later")


def test_one_no_closes_the_request(opened: Open) -> None:
    house = opened(PROJECT.replace("approvals = 1", "approvals = 2"))
    number = house.register()
    house.decide(number, "boris")
    assert house.decide(number, "clara", "reject").state == "rejected"
    with pytest.raises(Conflict, match="rejected"):
        house.decide(number, "dora")


def test_new_evidence_voids_what_was_decided_and_asks_again(house: House) -> None:
    number = house.register()
    house.decide(number, "boris")
    house.attach(number, "pipeline", 0.75)
    assert not house.holds(number)
    assert events(house, "approval.voided")[-1].data["reason"] == "new evidence was attached"
    assert house.decide(number, "clara").state == "approved" and house.holds(number)


def test_evidence_that_fails_the_gates_leaves_the_version_without_approval(house: House) -> None:
    number = house.register()
    house.decide(number, "boris")
    house.attach(number, "pipeline", 0.5)
    assert not house.holds(number)
    with pytest.raises(Conflict, match="failed its gates"):
        house.decide(number, "clara")


def test_an_approval_does_not_hold_between_new_evidence_and_its_voiding(house: House) -> None:
    from modelyard.registry import evidence

    number = house.register()
    house.decide(number, "boris")
    content = {"metrics": {"roc_auc": 0.71}}
    house.do(lambda conn: evidence.attach(conn, "m", number, "evaluation", content, actor="pipeline"))
    assert not house.holds(number)
    with pytest.raises(Forbidden, match="no approval"):
        house.see(lambda conn: approvals.require_approved(conn, "m", number, "production"))


def test_an_approval_does_not_hold_for_other_bytes(house: House) -> None:
    from modelyard.store.tables.registry import versions as version_rows

    number = house.register()
    house.decide(number, "boris")
    house.do(lambda conn: conn.execute(update(version_rows).values(digest="b" * 64)))
    assert not house.holds(number)


def test_a_decision_needs_words_a_verdict_and_a_place(house: House) -> None:
    number, boris = house.register(), house.who("boris")

    def decide(environment: str, verdict: str, comment: str) -> None:
        house.do(
            lambda conn: approvals.decide(conn, house.project, "m", number, environment, verdict, comment, boris)
        )

    with pytest.raises(Invalid, match="reason"):
        decide("production", "approve", "  ")
    with pytest.raises(Invalid, match="perhaps"):
        decide("production", "perhaps", "why")
    with pytest.raises(NotFound, match="Environments: production, staging"):
        decide("moon", "approve", "why")


# --- standing policies ---


def sign(house: House, name: str = "boris", lifetime_ms: int = 60_000) -> Any:
    principal = house.who(name)
    return house.do(
        lambda conn: standing.sign(conn, house.project, "m", "production", "routine retrains", lifetime_ms, principal)
    )


def test_a_standing_policy_approves_what_an_automatic_retrain_registers(house: House) -> None:
    sign(house)
    number = house.register("pipeline")
    assert house.holds(number)
    approved = events(house, "version.approved")[-1]
    assert approved.data["how"] == "standing" and "signed by boris" in approved.data["comment"]


def test_a_standing_policy_does_not_approve_what_a_person_registers(house: House) -> None:
    sign(house)
    assert not house.holds(house.register("ana"))


def test_a_retrain_approves_nothing_by_itself(house: House) -> None:
    assert not house.holds(house.register("pipeline"))


def test_a_standing_policy_does_not_approve_its_signers_own_service(house: House) -> None:
    house.hire("boris-robot", "service-pipeline", kind="service", behind="boris")
    sign(house)
    assert not house.holds(house.register("boris-robot"))


@pytest.mark.parametrize("how", ["revoked", "expired", "demoted", "disabled", "failed gates"])
def test_a_standing_policy_ends(house: House, how: str) -> None:
    from modelyard.store.tables.registry import standing_policies

    made = sign(house)
    auc = 0.8
    if how == "revoked":
        house.do(lambda conn: standing.revoke(conn, made.id, actor="boris"))
    elif how == "expired":
        house.do(lambda conn: conn.execute(update(standing_policies).values(expires_at=now_ms() - 1)))
    elif how == "demoted":
        house.do(lambda conn: principals.set_roles(conn, "boris", ["auditor"], actor="owner"))
    elif how == "disabled":
        house.do(lambda conn: principals.disable(conn, "boris", actor="owner"))
    else:
        auc = 0.6
    assert not house.holds(house.register("pipeline", auc=auc))


def test_weaker_gates_end_a_standing_policy(house: House) -> None:
    sign(house)
    weaker = parse_project(PROJECT.replace("min = 0.7", "min = 0.5"))
    assert house.see(lambda conn: standing.holding(conn, house.project, "m", "production"))
    assert not house.see(lambda conn: standing.holding(conn, weaker, "m", "production"))


def test_two_signers_where_two_must_approve(opened: Open) -> None:
    house = opened(PROJECT.replace("approvals = 1", "approvals = 2"))
    sign(house, "boris")
    sign(house, "boris")
    first = house.register("pipeline")
    assert not house.holds(first)
    sign(house, "clara")
    assert house.holds(house.register("pipeline"))
    assert house.decide(first, "clara").state == "approved"


def test_who_may_not_approve_signs_nothing(house: House) -> None:
    for name in ("ana", "mona", "audrey", "pipeline"):
        with pytest.raises(Forbidden):
            sign(house, name)
    with pytest.raises(Invalid, match="year"):
        sign(house, lifetime_ms=400 * 86_400_000)


def test_a_model_without_gates_has_no_standing_policy(opened: Open) -> None:
    house = opened(PROJECT.replace("[models.m.gates]\nroc_auc = { min = 0.7 }\n", ""))
    with pytest.raises(Conflict, match="gates"):
        sign(house)


# --- breaking the glass ---


def break_it(house: House, number: int, name: str = "mona", reason: str = "v1 answers nonsense since 03:00") -> Any:
    principal = house.who(name)
    return house.do(
        lambda conn: break_glass.break_glass(conn, house.project, "m", number, "production", reason, principal)
    )


def notified(house: House) -> list[str]:
    found = house.see(
        lambda conn: list(conn.execute(select(jobs.c.payload).where(jobs.c.kind == "notify")).scalars())
    )
    return [item["type"] for item in found]


def test_breaking_the_glass_approves_tells_and_ends(house: House) -> None:
    number = house.register(auc=0.6)
    given = break_it(house, number)
    assert house.holds(number) and given.expires_at is not None
    assert notified(house) == ["glass.broken"]
    assert events(house, "glass.broken")[0].actor == "mona"
    assert events(house, "version.approved")[-1].data["how"] == "break-glass"

    house.do(lambda conn: conn.execute(update(rows).where(rows.c.id == given.id).values(expires_at=now_ms() - 1)))
    assert not house.holds(number)
    assert house.see(break_glass.any_over)
    assert house.do(lambda conn: break_glass.expire(conn, house.project)) == 1
    assert not house.see(break_glass.any_over)
    assert notified(house) == ["glass.broken", "approval.expired"]
    assert house.see(lambda conn: versions.state(conn, "m", number, "production")) == "candidate"


def test_an_ordinary_decision_outlives_the_broken_glass(house: House) -> None:
    number = house.register()
    given = break_it(house, number)
    house.decide(number, "boris")
    house.do(lambda conn: conn.execute(update(rows).where(rows.c.id == given.id).values(expires_at=now_ms() - 1)))
    house.do(lambda conn: break_glass.expire(conn, house.project))
    assert house.holds(number)


def test_a_waiting_request_waits_on_when_the_glass_approval_ended(house: House) -> None:
    number = house.register()
    given = break_it(house, number)
    house.do(lambda conn: conn.execute(update(rows).where(rows.c.id == given.id).values(expires_at=now_ms() - 1)))
    house.do(lambda conn: break_glass.expire(conn, house.project))
    assert house.see(lambda conn: versions.state(conn, "m", number, "production")) == "pending"
    assert house.decide(number, "boris").state == "approved"


def test_breaking_the_glass_has_rules_too(house: House, opened: Open) -> None:
    number = house.register()
    for name in ("ana", "audrey", "pipeline"):
        with pytest.raises(Forbidden):
            break_it(house, number, name)
    with pytest.raises(Invalid, match="reason"):
        break_it(house, number, reason="urgent")
    house.decide(number, "boris")
    with pytest.raises(Conflict, match="already"):
        break_it(house, number)
    without = opened(
        PROJECT.replace('[environments.production.break_glass]\nexpires = "1h"\nnotify = ["oncall"]', "")
    )
    with pytest.raises(Forbidden, match="declares no way"):
        break_it(without, without.register())


def test_even_a_rejected_version_goes_out_when_the_glass_is_broken(house: House) -> None:
    number = house.register()
    house.decide(number, "boris", "reject")
    break_it(house, number, "boris")
    assert house.holds(number)
