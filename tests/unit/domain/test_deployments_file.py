"""deployments.toml: what it takes, and what it says of what it does not."""

import pytest

from modelyard.domain.deployments_file import parse
from modelyard.domain.errors import ConfigError


def test_every_strategy_with_its_options():
    text = """
    [production]
    a = { version = 3 }
    b = { version = "champion", rollout = { strategy = "all-at-once", warm = "1h" } }
    c = { version = 1, rollout = { strategy = "blue-green", bake = "5m", min_requests = 5 } }
    d = { version = 1, rollout = { strategy = "canary", steps = ["5%", "25%"] } }
    e = { version = 1, rollout = { strategy = "linear", step = "20%" } }
    f = { version = 1, rollout = { strategy = "shadow", steps = ["5%"] } }
    g = { version = 1, rollout = { strategy = "ab-test", share = "30%", reward = "correct" } }
    h = { rollout = { strategy = "bandit", reward = "label" } }
    i = { scale = { min = 0, max = 3, idle = "5m" } }
    j = { abort_if = { error_rate = 0.01, prometheus = { url = "http://p:9090", query = "up", max = 1 } } }
    """
    found = parse(text, "d.toml")
    assert [name for _, name in found] == list("abcdefghij") and found["production", "b"].version == "champion"
    strategies = [item.rollout.strategy for item in found.values() if item.rollout]
    assert strategies == ["all-at-once", "blue-green", "canary", "linear", "shadow", "ab-test", "bandit"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[production.m]\nversio = 1\n", "unknown key 'production.m.versio'. Did you mean 'version'?"),
        ("[production]\nm = 3\n", "production.m is 3, no table"),
        ("production = 3\n", "production is 3, no table"),
        ("[production.m]\nversion = true\n", "production.m.version: Expected `int | str | null`, got `bool`"),
        ('[production.m]\nversion = ""\n', "production.m.version is ''"),
        ("[production.m]\n", "production.m declares nothing"),
        ("[production\n", "is not valid TOML"),
        ('[production.m.rollout]\nstrategy = "canery"\n', "Give one of: all-at-once, blue-green, canary"),
        ('[production.m.rollout]\nstrategy = "canary"\n', "a canary needs steps"),
        ('[production.m.rollout]\nbakes = "1m"\n', "Allowed here: bake, min_requests"),
        ("[production.m.scale]\nmin = 5\n", "production.m.scale.min is 5, above max, 4"),
        ("[production.m.scale]\nmost = 5\n", "unknown key 'production.m.scale.most'"),
        ('[production.m.rollout]\nbake = "1x"\n', "production.m.rollout.bake: '1x' is not a duration"),
        ('[production.m.rollout]\nstrategy = "bandit"\n', "bandit needs a reward"),
        (
            "[production.m.abort_if]\nerror_rate = 1.5\n",
            "production.m.abort_if.error_rate is 1.5. Give a share from 0",
        ),
        (
            "[production.m.abort_if]\neror_rate = 0.1\n",
            "'production.m.abort_if.eror_rate'. Did you mean 'error_rate'?",
        ),
        ('[production.m.abort_if]\nerror_rate = "1%"\n', "abort_if.error_rate: Expected `float | null`, got `str`"),
        ("[production.m.abort_if]\n", "production.m.abort_if has no bound"),
        (
            '[production.m.abort_if]\nprometheus = { url = "p:9090", query = "up", max = 1 }\n',
            "production.m.abort_if.prometheus.url is 'p:9090'",
        ),
        (
            '[production.m]\nabort_if = { reward_below_champion = 0.1 }\nrollout = { strategy = "blue-green" }\n',
            "production.m.abort_if.reward_below_champion needs a reward",
        ),
        # what has its place elsewhere is told where
        (
            '[production.m]\nsticky = "x-user"\n',
            "production.m.sticky belongs in modelyard.toml. Move it there: [models.m.serving], key sticky.",
        ),
        ("[production.m.log]\nsample = 0.1\n", "Move it there: [models.m.serving], key log."),
        (
            '[production.m]\nfreeze = ["Fri 16:00 - Mon 08:00"]\n',
            "Move it there: [environments.production], key freeze.",
        ),
        ("[production.m.monitor]\nevery = '1h'\n", "Move it there: [models.m], key monitor."),
        ('[production]\nfreeze = ["Fri 16:00 - Mon 08:00"]\n', "d.toml: production.freeze belongs in modelyard.toml"),
        ("[production.abort_if]\nerror_rate = 0.1\n", "[environments.production], key abort_if."),
        ("[models.m.serving]\nsticky = 'x'\n", "[models] belongs in modelyard.toml"),
        ('[production.m]\nbake = "1h"\n', "production.m.bake is a key of rollout. Write rollout = { bake = ... }."),
        ("[production.m]\nerror_rate = 0.1\n", "production.m.error_rate is a key of abort_if."),
    ],
)
def test_what_does_not_fit_is_named(text: str, said: str):
    with pytest.raises(ConfigError) as refused:
        parse(text, "d.toml")
    assert said in str(refused.value) and str(refused.value).startswith("d.toml")
