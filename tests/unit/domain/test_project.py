"""modelyard.toml: what is wrong is named with its key, what was found, and what is allowed."""

import pytest

from modelyard.domain.errors import ConfigError
from modelyard.domain.project import parse_project, seconds, share

GOOD = """
[project]
name = "flights"

[models.flight-delay]
task = "binary"
pipeline = "pipeline.py:train_delay"
primary_metric = "roc_auc"
protected = ["carrier"]

[models.flight-delay.gates]
roc_auc = { min = 0.70, max_regression = 0.005 }

[models.flight-delay.monitor]
every = "1h"
window = { rows = 5000 }
on_alert = ["notify:ml-team", "retrain"]

[environments.staging]
approval = "gates"

[environments.production]
approvals = 1
after = "staging"
rollout = { strategy = "canary", steps = ["5%", "25%"], bake = "10m" }
abort_if = { error_rate = 0.01 }

[notify.ml-team]
url = "${ML_TEAM_URL}"
"""


def test_the_documented_project_is_read() -> None:
    project = parse_project(GOOD)
    assert project.models["flight-delay"].gates["roc_auc"].min == 0.70
    assert project.environments["production"].rollout.steps == ["5%", "25%"]


def test_without_environments_there_are_staging_and_production() -> None:
    project = parse_project('[project]\nname = "x"')
    assert project.environments["production"].after == "staging"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("max_regression = 0.005", "max_regresion = 0.005"),
            ["roc_auc.max_regresion", "'max_regression'", "Allowed"],
        ),
        (("task = ", "tsk = "), ["models.flight-delay.tsk", "'task'"]),
        (('"binary"', '"binry"'), ["task", "binry"]),
        (("rows = 5000", 'rows = "many"'), ["window.rows", "int"]),
        (('bake = "10m"', 'bake = "10 minutes"'), ["rollout.bake", "10 minutes", "10m"]),
        (('"25%"', '"250%"'), ["rollout.steps", "250%"]),
        (('after = "staging"', 'after = "stagin"'), ["after", "stagin", "'staging'"]),
        (("notify:ml-team", "notify:ml-tem"), ["on_alert", "notify:ml-tem", "notify:ml-team"]),
        (('"retrain"', '"retrian"'), ["on_alert", "retrian"]),
        (('[project]\nname = "flights"', ""), ["project"]),
        (('name = "flights"', "name = "), ["not valid TOML", "line"]),
        (('approval = "gates"', 'aproval = "gates"'), ["environments.staging.aproval", "'approval'"]),
        (("[notify.ml-team]", "[notifi.ml-team]"), ["notifi", "'notify'"]),
    ],
)
def test_a_mistake_is_named(change: tuple[str, str], words: list[str]) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_project(GOOD.replace(*change), "modelyard.toml")
    text = str(caught.value)
    assert "modelyard.toml" in text
    for word in words:
        assert word in text, text


def test_durations_and_shares() -> None:
    assert seconds("500ms") == 0.5
    assert seconds("10m") == 600
    assert share("5%") == 0.05
    for wrong in ("", "10", "m", "-1s"):
        with pytest.raises(ConfigError):
            seconds(wrong)
    for wrong in ("0%", "101%", "5"):
        with pytest.raises(ConfigError):
            share(wrong)
