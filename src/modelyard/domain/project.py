"""modelyard.toml as frozen types: what a project declares, checked key by key."""

import difflib
import tomllib
from typing import Any, Literal

import msgspec

from modelyard.domain import environments, monitors, pipelines
from modelyard.domain import serving as served
from modelyard.domain.environments import AbortIf, BeforeTraffic, BreakGlass, Environment, Prometheus, RolloutPolicy
from modelyard.domain.errors import ConfigError
from modelyard.domain.monitors import BiasLimits as BiasLimits
from modelyard.domain.monitors import DriftLimits as DriftLimits
from modelyard.domain.monitors import Explanations as Explanations
from modelyard.domain.monitors import Monitor as Monitor
from modelyard.domain.monitors import QualityLimits as QualityLimits
from modelyard.domain.monitors import Retrain as Retrain
from modelyard.domain.monitors import ServiceLimits as ServiceLimits
from modelyard.domain.monitors import Window as Window
from modelyard.domain.pipelines import OnData, OnEvent, Pipeline, Schedule
from modelyard.domain.sections import explain
from modelyard.domain.sections import seconds as seconds
from modelyard.domain.sections import share as share
from modelyard.domain.serving import Logged as Logged
from modelyard.domain.serving import Preview as Preview
from modelyard.domain.serving import Queue as Queue
from modelyard.domain.serving import Scale as Scale
from modelyard.domain.serving import Serving as Serving


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Gate(_Section, frozen=True):
    """Bounds on one metric; `by` names the protected column of a bias metric."""

    min: float | None = None
    max: float | None = None
    max_regression: float | None = None
    by: str | None = None


class Model(_Section, frozen=True):
    task: Literal["binary", "multiclass", "regression", "ranking", "forecasting"]
    pipeline: str = ""
    primary_metric: str = ""
    protected: list[str] = []
    gates: dict[str, Gate] = {}
    monitor: Monitor | None = None
    serving: Serving = Serving()


class Notify(_Section, frozen=True):
    """url: an Apprise URL; with a secret, the http(s) address of a webhook that takes signed CloudEvents."""

    url: str
    secret: str | None = None


class Ci(_Section, frozen=True):
    """What `modelyard ci` asks: how much data a sample run takes, and which dependencies are let in."""

    sample: float = 0.1
    deny_licences: tuple[str, ...] = ("AGPL*", "Affero", "SSPL*", "BUSL*", "Commons-Clause")
    known_bad: list[str] = []
    allow_packages: list[str] = []
    cpu_hour_price: float | None = None


class Repository(_Section, frozen=True):
    """A git repository whose pushes to `branch` run pipelines; secrets are named, never written here.

    secret: the environment variable that holds the webhook's secret. api: where a commit's status is told, such as
    https://api.github.com/repos/team/flights or https://gitlab.com/api/v4/projects/42. token: the variable that
    holds its token.
    """

    url: str
    secret: str
    kind: Literal["github", "gitlab"] = "github"
    branch: str = "main"
    pipelines: list[str] = []
    api: str = ""
    token: str = ""


class StepEnvironment(_Section, frozen=True):
    """Libraries of their own for steps: `@yard.step(environment="NAME")`.

    requirements: such as ["scikit-learn==1.5.2"], locked into `lock` (NAME.lock.txt by default), a file to commit;
    without requirements the lock is taken as it is. python: a version such as 3.12; the project's own by default.
    """

    requirements: list[str] = []
    lock: str = ""
    python: str = ""


class Server(_Section, frozen=True):
    """pipelines_at_once: how many pipelines one server process runs at a time; what is beyond waits."""

    pipelines_at_once: int = 4


class ProjectSection(_Section, frozen=True):
    name: str


class Project(_Section, frozen=True):
    project: ProjectSection
    models: dict[str, Model] = {}
    pipelines: dict[str, Pipeline] = {}
    environments: dict[str, Environment] = {}
    notify: dict[str, Notify] = {}
    ci: Ci = Ci()
    repositories: dict[str, Repository] = {}
    step_environments: dict[str, StepEnvironment] = {}
    server: Server = Server()

    @property
    def final_environment(self) -> str | None:
        """The environment after which no other comes, where the champion serves; None without environments."""
        earlier = {environment.after for environment in self.environments.values()}
        last = [name for name in self.environments if name not in earlier]
        return "production" if "production" in last else (last[-1] if last else None)


DEFAULT_ENVIRONMENTS = {
    "staging": Environment(approval="gates"),
    "production": Environment(after="staging"),
}


def parse_project(text: str, file: str = "modelyard.toml") -> Project:
    """The project that a TOML text declares.

    Raises ConfigError that names the file, the key, what was found and what is allowed.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.", remedy="Mend the line it names.") from error
    try:
        project = msgspec.convert(raw, Project)
    except msgspec.ValidationError as error:
        raise explain(error, raw, file, _SECTIONS) from error
    if not project.environments:
        project = msgspec.structs.replace(project, environments=DEFAULT_ENVIRONMENTS)
    _check(project, file)
    if not 0 < project.ci.sample <= 1:
        raise ConfigError(f"{file}: ci.sample is {project.ci.sample:g}.", remedy="Give more than 0 and at most 1.")
    return project


def _check(project: Project, file: str) -> None:
    for name, environment in project.environments.items():
        where = f"{file}: environments.{name}"
        environments.check(where, environment)
        if environment.after and environment.after not in project.environments:
            _unknown(f"{where}.after", environment.after, project.environments)
        for channel in environment.break_glass.notify if environment.break_glass else []:
            if channel not in project.notify:
                _unknown(f"{where}.break_glass.notify", channel, project.notify)
    for name, model in project.models.items():
        where = f"{file}: models.{name}"
        if model.monitor is not None:
            monitors.check(f"{where}.monitor", model.monitor, sorted(project.notify))
        served.check(f"{where}.serving", model.serving)
    for name, declared in project.pipelines.items():
        pipelines.check(f"{file}: pipelines.{name}", name, declared)
    if project.server.pipelines_at_once < 1:
        raise ConfigError(f"{file}: server.pipelines_at_once is less than 1.", remedy="Give 1 or more.")


def _unknown(where: str, found: str, allowed: Any) -> None:
    names = sorted(allowed)
    close = difflib.get_close_matches(found, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"{where}: {found!r} is not known.", remedy=f"{hint}Allowed: {', '.join(names) or 'nothing yet'}."
    )


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "": Project,
    "project": ProjectSection,
    "models.*": Model,
    "models.*.gates.*": Gate,
    "models.*.monitor": Monitor,
    "models.*.monitor.window": Window,
    "models.*.monitor.drift": DriftLimits,
    "models.*.monitor.model_quality": QualityLimits,
    "models.*.monitor.bias": BiasLimits,
    "models.*.monitor.service": ServiceLimits,
    "models.*.monitor.explanations": Explanations,
    "models.*.monitor.retrain": Retrain,
    "models.*.serving": Serving,
    "models.*.serving.log": Logged,
    "models.*.serving.preview": Preview,
    "models.*.serving.queue": Queue,
    "models.*.serving.scale": Scale,
    "pipelines.*": Pipeline,
    "pipelines.*.schedule": Schedule,
    "pipelines.*.on_event": OnEvent,
    "pipelines.*.on_data": OnData,
    "environments.*": Environment,
    "environments.*.rollout": RolloutPolicy,
    "environments.*.abort_if": AbortIf,
    "environments.*.abort_if.prometheus": Prometheus,
    "environments.*.before_traffic": BeforeTraffic,
    "environments.*.break_glass": BreakGlass,
    "notify.*": Notify,
    "ci": Ci,
    "repositories.*": Repository,
    "step_environments.*": StepEnvironment,
    "server": Server,
}
