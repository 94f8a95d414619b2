"""Who may do what: permissions, roles, and the one table that joins them (DESIGN section 8)."""

from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """A verb on a noun. `PUBLIC` needs no principal, `SIGNED_IN` any principal."""

    PUBLIC = "public"
    SIGNED_IN = "signed-in"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    PIPELINES_READ = "pipelines:read"
    PIPELINES_RUN = "pipelines:run"
    VERSIONS_READ = "versions:read"
    VERSIONS_REGISTER = "versions:register"
    VERSIONS_DECIDE = "versions:decide"
    DEPLOYMENTS_READ = "deployments:read"
    DEPLOYMENTS_DEPLOY = "deployments:deploy"
    DEPLOYMENTS_ROLLBACK = "deployments:rollback"
    ENDPOINTS_INVOKE = "endpoints:invoke"
    ENDPOINTS_SERVE = "endpoints:serve"
    PREDICTIONS_READ = "predictions:read"
    PREDICTIONS_LABEL = "predictions:label"
    MONITORS_READ = "monitors:read"
    MONITORS_WRITE = "monitors:write"
    MONITORS_REPORT = "monitors:report"
    PRINCIPALS_READ = "principals:read"
    PRINCIPALS_WRITE = "principals:write"
    AUDIT_READ = "audit:read"
    YARD_ADMIN = "yard:admin"


class Reach(StrEnum):
    """Where a granted permission holds."""

    ANYWHERE = "anywhere"
    NOT_PRODUCTION = "not-production"


PRODUCTION = "production"


class Role(StrEnum):
    ADMIN = "admin"
    DATA_SCIENTIST = "data-scientist"
    ML_ENGINEER = "ml-engineer"
    MLOPS = "mlops"
    APPROVER = "approver"
    AUDITOR = "auditor"
    PIPELINE_SERVICE = "service-pipeline"
    ENDPOINT_SERVICE = "service-endpoint"
    MONITOR_SERVICE = "service-monitor"
    CI_SERVICE = "service-ci"


P, ANY, DEV = Permission, Reach.ANYWHERE, Reach.NOT_PRODUCTION

_EVERYBODY = {P.RUNS_READ: ANY, P.PIPELINES_READ: ANY, P.VERSIONS_READ: ANY, P.DEPLOYMENTS_READ: ANY}
_READERS = _EVERYBODY | {P.PREDICTIONS_READ: ANY, P.MONITORS_READ: ANY}

ROLES: dict[Role, dict[Permission, Reach]] = {
    Role.ADMIN: {permission: ANY for permission in Permission},
    Role.DATA_SCIENTIST: _EVERYBODY
    | {
        P.RUNS_WRITE: ANY,
        P.PIPELINES_RUN: DEV,
        P.VERSIONS_REGISTER: ANY,
        P.DEPLOYMENTS_DEPLOY: DEV,
        P.DEPLOYMENTS_ROLLBACK: DEV,
        P.ENDPOINTS_INVOKE: DEV,
        P.PREDICTIONS_READ: DEV,
        P.PREDICTIONS_LABEL: DEV,
        P.MONITORS_READ: ANY,
    },
    Role.ML_ENGINEER: _READERS
    | {
        P.RUNS_WRITE: ANY,
        P.PIPELINES_RUN: DEV,
        P.VERSIONS_REGISTER: ANY,
        P.DEPLOYMENTS_DEPLOY: DEV,
        P.DEPLOYMENTS_ROLLBACK: DEV,
        P.ENDPOINTS_INVOKE: DEV,
        P.PREDICTIONS_LABEL: ANY,
        P.MONITORS_WRITE: ANY,
    },
    Role.MLOPS: _READERS
    | {
        P.PIPELINES_RUN: ANY,
        P.DEPLOYMENTS_DEPLOY: ANY,
        P.DEPLOYMENTS_ROLLBACK: ANY,
        P.ENDPOINTS_INVOKE: ANY,
        P.PREDICTIONS_LABEL: ANY,
        P.MONITORS_WRITE: ANY,
        P.PRINCIPALS_READ: ANY,
        P.PRINCIPALS_WRITE: ANY,
        P.AUDIT_READ: ANY,
    },
    Role.APPROVER: _READERS | {P.VERSIONS_DECIDE: ANY, P.DEPLOYMENTS_ROLLBACK: ANY, P.AUDIT_READ: ANY},
    Role.AUDITOR: _READERS | {P.PRINCIPALS_READ: ANY, P.AUDIT_READ: ANY},
    Role.PIPELINE_SERVICE: _EVERYBODY | {P.RUNS_WRITE: ANY, P.PIPELINES_RUN: ANY, P.VERSIONS_REGISTER: ANY},
    Role.ENDPOINT_SERVICE: {
        P.VERSIONS_READ: ANY,
        P.DEPLOYMENTS_READ: ANY,
        P.ENDPOINTS_SERVE: ANY,
        P.PREDICTIONS_LABEL: ANY,  # its gateway takes labels, and brings them here
    },
    Role.MONITOR_SERVICE: _READERS | {P.MONITORS_REPORT: ANY},
    Role.CI_SERVICE: _EVERYBODY | {P.PIPELINES_RUN: DEV, P.DEPLOYMENTS_DEPLOY: ANY, P.ENDPOINTS_INVOKE: DEV},
}


@dataclass(frozen=True)
class Principal:
    """Somebody or something that acts: a person or a service, with its roles.

    `behind` is the person responsible for a service, so that separation of duties sees through it.
    """

    name: str
    kind: str
    roles: frozenset[Role]
    behind: str | None = None

    def may(self, permission: Permission, environment: str | None = None) -> bool:
        """Whether some role grants `permission` in `environment` (None: not bound to one)."""
        if permission in (Permission.PUBLIC, Permission.SIGNED_IN):
            return True
        for role in self.roles:
            reach = ROLES[role].get(permission)
            if reach is Reach.ANYWHERE or (reach is Reach.NOT_PRODUCTION and environment != PRODUCTION):
                return True
        return False


SYSTEM = Principal(name="modelyard", kind="service", roles=frozenset({Role.ADMIN}))
"""The platform itself, for changes that it makes by policy (reconciling, gates)."""
