"""Two environments in a row: what a person reads while a version waits for the one before, or for traffic."""

from collections.abc import Callable

import pytest

from tests.unit.deliver.deployments.house import House

PROJECT = """
[project]
name = "tests"

[environments.staging]
approval = "gates"
rollout = { strategy = "all-at-once" }

[environments.production]
after = "staging"
rollout = { strategy = "canary", steps = ["50%"], bake = "4s", min_requests = 20 }
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_waits_says_for_what_and_how_to_go_on(yard: Callable[..., House]) -> None:
    house = yard(PROJECT)

    def told(*words: str) -> bool:
        said = "\n".join(house.endpoint()["differences"])
        return all(word in said for word in words)

    one = house.first()

    # callers would break: staging refuses it, and production says why it waits and what to type
    two = house.ship(columns=("x", "y"))
    command = ["modelyard", "deploy", f"m/{two}", "--to", "staging", "--accept-breaking"]
    refused = "waits until v2 serves in staging, where its rollout was aborted: callers would break: column 'y'"
    house.wait(lambda: told(refused, f'{" ".join(command)} "why"'), "the reason")
    house.command(*command[1:], "they send y")
    house.wait_event("rollout.aborted", environment="production", version=two)
    assert house.settled(one)
    house.command("deploy", f"m/{two}", "--to", "production", "--accept-breaking", "they send y")

    # nobody asks: the step's time passes, and what it waits for is said before a person is asked
    over = "a rollout has 50% of the traffic; its 4s are over, and it goes on once it can be judged"
    house.wait(lambda: told(over, ": 0 requests so far, 20 are needed"), "the step to wait for traffic")
    house.steer("promote")

    # an older version goes to production again: it served in staging until a newer one took its place
    house.command("deploy", f"m/{one}", "--to", "production")
    house.wait(lambda: told(over), "the older version's step")
    house.steer("promote")

    # what staging took back waits for a person's word
    house.command("rollback", "staging/m", "-m", "slow there")
    house.command("deploy", f"m/{two}", "--to", "production")
    house.wait(
        lambda: told(f"waits until v2 serves in staging: modelyard deploy m/{two} --to staging"), "the command"
    )
