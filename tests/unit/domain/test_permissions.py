"""Roles: the table of DESIGN section 8, checked where it matters most."""

import pytest

from modelyard.domain.permissions import PRODUCTION, ROLES, Permission, Principal, Role


def who(*roles: Role) -> Principal:
    return Principal("somebody", "person", frozenset(roles))


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.ADMIN, Role.APPROVER)])
def test_only_approvers_decide(role: Role) -> None:
    assert not who(role).may(Permission.VERSIONS_DECIDE)


@pytest.mark.parametrize("role", [Role.DATA_SCIENTIST, Role.ML_ENGINEER, Role.CI_SERVICE])
def test_builders_deploy_outside_production_only(role: Role) -> None:
    assert who(role).may(Permission.DEPLOYMENTS_DEPLOY, "staging")
    assert not who(role).may(Permission.DEPLOYMENTS_DEPLOY, PRODUCTION)


def test_auditors_and_approvers_change_nothing_that_runs() -> None:
    for role in (Role.AUDITOR, Role.APPROVER):
        for permission in (Permission.RUNS_WRITE, Permission.PIPELINES_RUN, Permission.DEPLOYMENTS_DEPLOY):
            assert not who(role).may(permission, "staging")


def test_a_pipeline_service_registers_but_never_approves() -> None:
    assert who(Role.PIPELINE_SERVICE).may(Permission.VERSIONS_REGISTER)
    assert not who(Role.PIPELINE_SERVICE).may(Permission.VERSIONS_DECIDE)


def test_nobody_may_nothing_but_public() -> None:
    nobody = who()
    assert nobody.may(Permission.PUBLIC)
    assert not any(nobody.may(p) for p in Permission if p not in (Permission.PUBLIC, Permission.SIGNED_IN))


def test_every_role_is_in_the_table() -> None:
    assert set(ROLES) == set(Role)
