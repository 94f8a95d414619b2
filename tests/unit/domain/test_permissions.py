"""Roles: the table of DESIGN section 8, checked where it matters most."""

import pytest

from modelyard.domain.permissions import PRODUCTION, ROLES, Permission, Principal, Role


def who(*roles: Role) -> Principal:
    return Principal("somebody", "person", frozenset(roles))


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.ADMIN, Role.APPROVER)])
def test_only_approvers_decide(role: Role) -> None:
    assert not who(role).may(Permission.VERSIONS_DECIDE)


@pytest.mark.parametrize("role", [Role.DATA_SCIENTIST, Role.ML_ENGINEER])
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


TABLE = """
permission         | data-scientist | ml-engineer | mlops | approver | auditor | pipeline | endpoint | monitor | ci
runs:read                  | X  | X  | X  | X | X | X | - | X  | X
runs:write                 | X  | X  | -  | - | - | X | - | -  | -
pipelines:run              | Xd | Xd | X  | - | - | X | - | -  | Xd
versions:register          | X  | X  | -  | - | - | X | - | -  | -
versions:decide            | -  | -  | -  | X | - | - | - | -  | -
deployments:deploy         | Xd | Xd | X  | - | - | - | - | -  | X
deployments:rollback       | Xd | Xd | X  | X | - | - | - | -  | -
endpoints:invoke           | Xd | Xd | X  | - | - | - | - | -  | Xd
endpoints:serve            | -  | -  | -  | - | - | - | X | -  | -
predictions:read           | Xd | X  | X  | X | X | - | - | X  | -
predictions:label          | Xd | X  | X  | - | - | - | X | -  | -
monitors:read              | X  | X  | X  | X | X | - | - | X  | -
monitors:write             | -  | X  | X  | - | - | - | - | -  | -
monitors:report            | -  | -  | -  | - | - | - | - | X  | -
principals:read            | -  | -  | X  | - | X | - | - | -  | -
principals:write           | -  | -  | X  | - | - | - | - | -  | -
audit:read                 | -  | -  | X  | X | X | - | - | -  | -
yard:admin                 | -  | -  | -  | - | - | - | - | -  | -
"""
"""DESIGN section 8 by permission: X anywhere, Xd outside production only, - never."""


def cells() -> list[tuple[str, str, str]]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    services = {"pipeline", "endpoint", "monitor", "ci"}
    roles = [f"service-{name}" if name in services else name for name in head[1:]]
    return [(line[0], role, cell) for line in lines for role, cell in zip(roles, line[1:], strict=True)]


@pytest.mark.parametrize(("permission", "role", "cell"), cells())
def test_each_cell_of_the_table(permission: str, role: str, cell: str) -> None:
    holder = who(Role(role))
    expected = {"X": (True, True), "Xd": (True, False), "-": (False, False)}[cell]
    found = tuple(holder.may(Permission(permission), place) for place in ("staging", PRODUCTION))
    assert found == expected


def test_the_table_leaves_no_permission_out() -> None:
    told = {permission for permission, _, _ in cells()}
    everybody = {"public", "signed-in", "pipelines:read", "versions:read", "deployments:read"}
    assert told | everybody == {str(permission) for permission in Permission}
