"""A yard as a team leaves it after some weeks, served on a free port: what the console's tests look at."""

import json
import math
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from modelyard.build.tracking import runs
from modelyard.build.tracking.metrics import Metric
from modelyard.client.api import Client, path
from modelyard.deliver.deployments import records, rollouts
from modelyard.domain.states import RolloutState
from modelyard.kit.clock import now_ms
from modelyard.kit.ids import new_id
from modelyard.server.app import Embedded
from modelyard.server.bootstrap import open_yard
from modelyard.server.settings import Settings
from modelyard.server.yard import Yard
from tests.conftest import wait_until

PROJECT = """
[project]
name = "flights"

[models.flight-delay]
task = "binary"
pipeline = "pipeline.py:train"
primary_metric = "roc_auc"
protected = ["carrier"]

[models.flight-delay.gates]
roc_auc = { min = 0.65, max_regression = 0.005 }
brier = { max = 0.2 }

[models.flight-delay.monitor]
window = { rows = 1000 }
persistence = 1

[pipelines.nightly]
pipeline = "pipeline.py:train"
params = { day = "{day}" }

[pipelines.nightly.schedule]
cron = "30 2 * * *"
zone = "Europe/Berlin"

[environments.staging]
approval = "gates"

[environments.production]
after = "staging"
rollout = { strategy = "canary", steps = ["10%", "50%"], bake = "10m" }
freeze = ["2036-12-20 - 2037-01-02"]
"""
MODEL, WHERE = "flight-delay", "production"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PEOPLE = {"ana": "data-scientist", "boris": "approver", "clara": "approver", "otto": "mlops", "rita": "auditor"}


class House:
    def __init__(self, yard: Yard, url: str) -> None:
        self.yard = yard
        self.url = url
        credentials = (yard.home / "credentials.json").read_text()
        self.tokens = {"owner": json.loads(credentials)["local"]["token"]}
        for name, role in PEOPLE.items():
            self.client("owner").call("POST", path("principals"), body={"name": name, "roles": [role]})
            made = self.client("owner").call("POST", path("tokens"), body={"principal": name})
            self.tokens[name] = made["token"]

    def client(self, name: str) -> Client:
        return Client.connect(self.url, self.tokens[name])

    def sign_in_path(self, name: str) -> str:
        return self.client(name).call("POST", path("sign-in"))["path"]

    def register(self, auc: float, champion: dict[str, Any] | None = None) -> int:
        """The number of a new version, made by ana, evaluated, its gates judged and its approvals asked for."""
        ana = self.client("ana")
        params = {"learning_rate": str(round(auc / 7, 3)), "max_depth": "6"}
        tags = {"team": "delays"}
        body = {
            "experiment": MODEL,
            "name": f"train-{auc}",
            "params": params,
            "metrics": {"roc_auc": auc},
            "tags": tags,
        }
        run = ana.call("POST", path("runs"), body=body)
        model = ana.call("POST", path("runs", run["id"], "logged-models"), body={"name": "model"})
        for name in ("MLmodel", "model.skops"):
            ana.upload("PUT", f"/api/v1/artifacts/{model['artifact_root']}/{name}", f"{name} {auc}".encode())
        ana.call("POST", path("runs", run["id"], "end"), body={"status": "FINISHED"})
        carriers = [("UA", 0.02, 900), ("AA", 0.0, 700), ("B6", -0.01, 650), ("EV", -0.15, 300), (HOSTILE, 0.01, 40)]
        evaluation = {
            "metrics": {"roc_auc": auc, "brier": round(0.3 - auc / 6, 4), "latency_p99_ms": 12.5},
            "standard_errors": {"roc_auc": 0.008, "brier": 0.003},
            "rows": 2590,
            "dataset": "d" * 64,
            "slices": [
                {"by": "carrier", "value": name, "rows": rows, "metrics": {"roc_auc": auc + shift}}
                for name, shift, rows in carriers
            ],
            "champion": champion,
        }
        made = ana.call(
            "POST",
            path("models", MODEL, "versions"),
            body={
                "source": f"models:/{model['id']}",
                "evaluation": evaluation,
                "lineage": {"params": params, "code": {"commit": "4f0c2a9", "dirty": False}},
                "description": "Trained on the months before.",
            },
        )
        number: int = made["version"]
        whole = path("models", MODEL, "versions", number)
        wait_until(
            lambda: any(item["environment"] == WHERE for item in ana.call("GET", whole)["approvals"]),
            "the request for approval, which follows the answer",
        )
        return number

    def serve(self, environment: str, version: int) -> None:
        """Complete the rollout of a version, as the controller does when its workers answer."""

        def work(conn: Any) -> None:
            under_way = records.active_rollout(conn, environment, MODEL)
            if under_way is None:
                project = self.yard.project
                under_way = rollouts.deploy(conn, project, MODEL, version, environment, actor="otto", cause=None)
            if under_way.state == RolloutState.PENDING:
                rollouts.move(conn, under_way, RolloutState.STARTING, "rollout.started", actor="otto")
            under_way = records.get_rollout(conn, under_way.id)
            rollouts.complete(conn, self.yard.project, under_way)

        self.yard.store.write_now(work)

    def live(self, environment: str) -> int:
        def work(conn: Any) -> int:
            endpoint = records.get_endpoint(conn, environment, MODEL)
            return records.get(conn, endpoint.live or "").version

        return self.yard.store.write_now(work)

    def alarm(self) -> None:
        """One alert of drift and one of the model's quality."""
        columns = [
            {"name": name, "kind": "numeric", "test": "W1/sd", "effect": effect, "threshold": 0.3, "psi": effect * 3}
            | {"p_value": 0.0, "drifted": effect > 0.3, "calibrated": True, "false_alarm_rate": 0.03}
            | {"before": 30.0, "after": 70.0 + effect}
            for name, effect in (("temperature", 2.1), ("dew_point", 1.7), ("distance", 0.1), (HOSTILE, 0.05))
        ]
        drift = {"columns": columns, "drifted": ["temperature", "dew_point"], "share": 0.5, "limit": 0.2}
        drift |= {"calibrated": True, "reference_windows": 40, "false_alarm_rate": 0.02}
        drift |= {"data_quality": [{"column": "tail", "check": "new", "message": "new tails"}]}
        now, results = now_ms(), list[dict[str, Any]]()
        for index in range(6):
            end = now - (6 - index) * 86_400_000
            bad = index > 3
            keys = {"version": 2, "window_start": end - 86_400_000, "window_end": end, "rows": 1000}
            verdict = "alert" if bad else "ok"
            title = "2 of 4 columns drifted: temperature (PSI 6.3)" if bad else "no column drifted"
            shown = {**drift, "share": 0.5 if bad else 0.0}
            results.append({**keys, "kind": "drift", "verdict": verdict, "title": title, "detail": shown})
            value = 0.66 if bad else 0.715
            detail = {"metric": "roc_auc", "value": value, "baseline": 0.72, "standard_error": 0.01, "rows": 1000}
            detail |= {"low": value - 0.02, "high": value + 0.02}
            title = f"roc_auc fell to {value}"
            results.append({**keys, "kind": "model_quality", "verdict": verdict, "title": title, "detail": detail})
        where = f"/api/v1/environments/{WHERE}/endpoints/{MODEL}/monitor-results"
        self.client("owner").call("POST", where, body={"results": results})

    def curves(self, experiment: str, count: int, points: int) -> None:
        """Runs with a curve each, params and a hostile name among them."""
        owner, noise = self.client("owner"), random.Random(7)
        for index in range(count):
            name = HOSTILE if index == 1 else f"search-{index:02d}"
            body = {
                "experiment": experiment,
                "name": name,
                "params": {"lr": str(0.1 / (index + 1)), "seed": str(index)},
            }
            body |= {"metrics": {"auc": 0.6 + noise.random() / 5}, "tags": {"note": HOSTILE, "team": "delays"}}
            run = owner.call("POST", path("runs"), body=body)
            now = now_ms()
            curve = [
                Metric("loss", math.exp(-step / (60 + 9 * index)) + noise.random() / 20, now + step * 40, step)
                for step in range(1, points + 1)
            ]
            self.yard.store.write_now(
                lambda conn, run=run, curve=curve: runs.log_batch(conn, run["id"], curve[:1000])
            )
            if index < 2:
                root = run["artifact_root"]
                for file, data in (
                    ("page.html", b"<h1>page</h1>" + HOSTILE.encode()),
                    ("notes/plain.txt", HOSTILE.encode()),
                    ("table.csv", b"a,b\n1,<b>2</b>\n"),
                    ("pixel.png", PIXEL),
                    ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
                ):
                    owner.upload("PUT", f"/api/v1/artifacts/{root}/{file}", data)
            if index != 2:
                owner.call("POST", path("runs", run["id"], "end"), body={"status": "FINISHED"})

    def pipeline(self) -> str:
        owner = self.client("owner")
        body = {"pipeline": "pipeline.py:train", "params": {"first_month": 1}, "code": {"commit": "4f0c2a9"}}
        steps = {
            step: {"state": state, "key": "a" * 64, "seconds": seconds, "started_at": now_ms(), "ended_at": now_ms()}
            for step, state, seconds in (
                ("load", "cached", 0.1),
                ("features", "finished", 2.5),
                ("fit", "failed", 4.0),
            )
        }
        ended = {"state": "failed", "started_at": now_ms(), "ended_at": now_ms(), "error": "fit raised ValueError"}
        made = new_id()
        owner.call("PUT", path("pipeline-runs", made), body={**body, **ended, "steps": steps})
        return made


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """A yard in `folder` behind a real HTTP server, without the loops that would need workers."""
    (folder / "modelyard.toml").write_text(PROJECT)
    yard = open_yard(folder / ".modelyard", folder, Settings(loops=False))
    listener = socket.create_server(("127.0.0.1", 0))
    options: dict[str, Any] = {"log_level": "warning", "lifespan": "off", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(Embedded(yard), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server to start")
    try:
        yield House(yard, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(20)
        yard.store.close()


def furnish(house: House) -> None:
    """Two versions that serve, one that waits for a decision, alerts, runs, a pipeline run."""
    first = house.register(0.70)
    house.client("boris").call("POST", path("models", MODEL, "versions", first, "decisions"), body=verdict("approve"))
    house.serve("staging", first)
    house.serve(WHERE, first)
    second = house.register(0.72)
    house.client("boris").call(
        "POST", path("models", MODEL, "versions", second, "decisions"), body=verdict("approve")
    )
    house.serve("staging", second)
    house.serve(WHERE, second)
    difference = {"roc_auc": {"value": 0.013, "low": 0.004, "high": 0.022}}
    difference |= {"brier": {"value": -0.001, "low": -0.004, "high": 0.002}}
    champion = {"version": 2, "metrics": {"roc_auc": 0.717, "brier": 0.179}, "difference": difference}
    house.register(0.73, champion)
    house.alarm()
    house.curves("search", 12, 300)
    house.pipeline()


def verdict(word: str, comment: str = "the gates pass and the slices are even") -> dict[str, str]:
    return {"environment": WHERE, "verdict": word, "comment": comment}
