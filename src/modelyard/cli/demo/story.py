"""The demo's story, chapter by chapter; every act is a command or call that a user could make."""

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from modelyard.cli.demo.house import House
from modelyard.cli.demo.narrator import Narrator
from modelyard.cli.demo.report import write_report
from modelyard.cli.demo.traffic import Sent, Traffic
from modelyard.client.api import path
from modelyard.domain.errors import ModelyardError
from modelyard.kit.ranking import roc_auc

MODEL, WHERE = "flight-delay", "production"
ROWS_A_MONTH = 4000
MONTHS = ("March", "April", "May", "June", "July", "August", "September")
BAKE = "3s"


@dataclass
class Month:
    """What one month looked like, with the platform and without."""

    name: str
    alone: float
    kept: float
    version: int
    rows: int


@dataclass
class Story:
    folder: Path
    report: Path | None
    keep_running: bool
    narrator: Narrator = field(default_factory=Narrator)
    months: list[Month] = field(default_factory=list[Month])

    def tell(self) -> None:
        """Tell it from beginning to end; whatever happens, what was started is stopped (unless asked otherwise)."""
        self.house = House(self.folder, self.keep_running)
        try:
            self._tell()
        except BaseException:
            self.keep_running = False
            raise
        finally:
            self.narrator.close()
            if not self.keep_running:
                self.house.stop()

    def _tell(self) -> None:
        self._project()
        self._first_version()
        self._delivery()
        self._months_go_by()
        self._second_champion()
        self._bad_version()
        self._ending()

    def _project(self) -> None:
        say = self.narrator
        say.chapter(1, "A project of four files")
        say.command("modelyard init --template flights")
        from modelyard.build.pipelines import scaffold

        scaffold.write("flights", self.folder)
        declared = self.folder / "modelyard.toml"
        text = (
            declared.read_text()
            .replace('bake = "10m"', f'bake = "{BAKE}"')
            .replace("min_requests = 100", "min_requests = 20")
            .replace("latency_p99_ms = { max = 500 }", "latency_p99_ms = { max = 5000 }")
            .replace('cool_down = "1m"', 'cool_down = "5s"')
        )
        declared.write_text(text)
        say.say(f"{self.folder} (the canary bakes {BAKE}, not minutes, and latency bounds allow for a busy machine)")
        sys.path.insert(0, str(self.folder))
        reading = ThreadPoolExecutor(1).submit(self._read_year)  # while the yard comes up
        say.command("modelyard up")
        say.say(f"up after {self.house.start():.1f} s: server, a gateway for staging and one for production")
        self.house.hire("ana", "ml-engineer")
        self.house.hire("boris", "approver")
        self.house.hire("otto", "mlops")
        say.say("three people: ana builds, boris approves, otto operates; nobody approves what they made")
        say.follow(self.house.owner())
        sign_in = self.house.owner().call("POST", path("sign-in"))["path"]
        say.say(f"console: {self.house.url}{sign_in} (works once)")
        self.year, self.columns = reading.result()

    def _read_year(self) -> tuple[pd.DataFrame, list[str]]:
        """The flights of all months as the model sees them, and the columns that a client sends."""
        import pipeline  # pyright: ignore[reportMissingImports] - the project just written

        flights = pipeline.load_flights("2013-01-01", "2013-10-01")
        year = pipeline.features(flights, pipeline.load_weather(), pipeline.load_planes())
        return year, [*pipeline.CATEGORIES, *pipeline.NUMBERS]

    def _first_version(self) -> None:
        self.narrator.chapter(2, "The pipeline trains on January and February")
        self._run("pipeline.py:train_delay")
        self._metrics(1)

    def _run(self, reference: str) -> None:
        self.narrator.command(f"modelyard run {reference}")
        for line in self.house.command("ana", "run", reference).splitlines():
            self.narrator.say(line.strip())

    def _metrics(self, version: int) -> None:
        shown = self.house.client("ana").call("GET", path("models", MODEL, "versions", version))["metrics"]
        names = ("roc_auc", "brier", "latency_p99_ms")
        self.narrator.say(f"v{version}: " + ", ".join(f"{name} {shown[name]:.3f}" for name in names))

    def _delivery(self) -> None:
        say = self.narrator
        say.chapter(3, "Somebody else approves; the deployment starts by itself")
        self.house.wait(lambda: self.house.newest("approval.requested", version=1), "the request for approval")
        try:
            self.house.command("ana", "approve", f"{MODEL}/1", "--to", WHERE, "-m", "looks good to me")
        except ModelyardError as error:
            say.say(f"ana tries to approve her own work: {error}")
        self._approve(1, "AUC and Brier pass the gates; nothing serves yet")
        self.house.wait(lambda: self.house.newest("rollout.completed", version=1, environment=WHERE), "v1 to serve")
        self.traffic = Traffic(
            f"{self.house.gateway(WHERE)}/endpoints/{MODEL}/invocations", self.house.tokens["otto"]
        )
        row = self._sample(3).head(1)
        sent = self.house.wait(lambda: self._answered(row), "the endpoint's first answer")
        say.command(f"modelyard predict {WHERE}/{MODEL} --json '[{{...}}]'")
        flight = row.iloc[0]
        say.say(
            f"{flight['carrier']} from {flight['origin']} to {flight['dest']} at {flight['hour']:.0f}:00: "
            f"{sent.scores[0]:.0%} likely to be late (a real HTTP answer of v1)"
        )

    def _answered(self, row: pd.DataFrame) -> Sent | None:
        sent = self.traffic.send(row[self.columns])
        return sent if sent.scores else None

    def _approve(self, version: int, why: str) -> None:
        self.narrator.command(f'modelyard approve {MODEL}/{version} --to {WHERE} -m "{why}"   (as boris)')
        self.house.command("boris", "approve", f"{MODEL}/{version}", "--to", WHERE, "-m", why)

    def _months_go_by(self) -> None:
        self.narrator.chapter(4, "The months go by: drift, then the loss of quality")
        for number in (3, 4):
            self._live_through(number)
        alert = self.house.wait(lambda: self.house.newest("retrain.triggered"), "the retrain")
        self.narrator.say(f"why: {alert['data']['title']}")
        self.house.wait(lambda: self.house.inbox.received, "the notification")
        note = self.house.inbox.received[0]
        self.narrator.say(f"the team's channel received: {note['title']}: {note['message'].splitlines()[0]}")

    def _sample(self, month: int) -> pd.DataFrame:
        """ROWS_A_MONTH flights of a month, in the order of departure."""
        rows = self.year[self.year["day"].dt.month == month]
        return rows.sample(min(ROWS_A_MONTH, len(rows)), random_state=month).sort_index()

    def _live_through(self, month: int, watched: bool = True) -> None:
        """A month's flights ask for predictions; their delays become known; the monitor looks."""
        say, rows = self.narrator, self._sample(month)
        sent = self.traffic.send(rows[self.columns])
        labels = rows["late"].to_numpy()[sent.rows]
        self._tell_truth(sent, labels)
        version = int(max(sent.versions(), key=lambda name: sent.versions()[name]))
        kept = roc_auc(labels, pd.Series(sent.scores).to_numpy())
        self.months.append(Month(MONTHS[month - 3], 0.0, kept, version, len(sent.scores)))
        failed = f", {sent.failed()} requests failed" if sent.failed() else ""
        say.say(
            f"{MONTHS[month - 3]}: {len(sent.scores)} flights through the endpoint, "
            f"AUC {kept:.3f} (v{version}){failed}"
        )
        (self.folder / "today.txt").write_text(f"2013-{month + 1:02d}-01\n")
        if watched:
            say.command(f"modelyard monitor run {MODEL}   (what the schedule does every hour)")
            self._monitor()

    def _tell_truth(self, sent: Sent, labels: Any) -> None:
        body = {"labels": [{"id": i, "label": float(v)} for i, v in zip(sent.ids, labels, strict=True)]}
        where = path("environments", WHERE, "endpoints", MODEL, "ground-truth")
        self.house.client("otto").call("POST", where, body=body)

    def _monitor(self) -> None:
        """Run the monitor as its service does, by a job."""
        import json

        found = json.loads(self.house.command("owner", "monitor", "run", MODEL, "--json"))
        for result in found:
            if result["verdict"] != "ok":
                self.narrator.say(f"{result['kind']}: {result['title']}")

    def _second_champion(self) -> None:
        say = self.narrator
        say.chapter(5, "A candidate from newer months meets the champion on the same newest flights")
        self.house.wait(lambda: self.house.newest("approval.requested", version=2), "the candidate")
        evidence = self.house.client("boris").call("GET", path("models", MODEL, "versions", 2))["evidence"][0][
            "content"
        ]
        difference = evidence["champion"]["difference"]["roc_auc"]
        say.say(
            f"v2 - v1 on {evidence['rows']} rows that neither was fitted on: AUC {difference['value']:+.3f} "
            f"(95% interval {difference['low']:+.3f} to {difference['high']:+.3f})"
        )
        self._approve(2, "better beyond noise on the newest flights")
        with self.traffic.flow(self._sample(5)[self.columns], batch=5) as flow:
            self.house.wait(
                lambda: self.house.newest("rollout.completed", version=2, environment=WHERE), "v2's canary"
            )
        say.say(f"requests during the canary by version: {flow.sent.versions()}, {flow.sent.failed()} failed")
        for number in (5, 6):
            self._live_through(number)

    def _bad_version(self) -> None:
        say = self.narrator
        say.chapter(6, "A bad version is taken back by itself; a rollback by hand is instant")
        source = resources.files("modelyard.cli.demo").joinpath("mistake.py.txt")
        (self.folder / "mistake.py").write_text(source.read_text())
        before = self._newest_version()
        self._run("mistake.py:train_mistake")
        bad = self.house.wait(lambda: self._newest_version() if self._newest_version() > before else None, "v3")
        self.house.wait(lambda: self.house.newest("approval.requested", version=bad), "the request for approval")
        say.say("its test left out every row with a missing value, so the gates pass; live flights have them")
        self._approve(bad, "the gates pass")
        with self.traffic.flow(self._sample(7)[self.columns], batch=1) as flow:
            event = self.house.wait(lambda: self.house.newest("rollout.aborted", version=bad), "the abort")
        say.say(f"aborted: {event['data']['reason']}")
        wrong = {key: count for key, count in flow.sent.statuses.items() if key[1] != 200}
        outside = sum(count for (version, _), count in wrong.items() if version != str(bad))
        say.say(f"requests by version: {flow.sent.versions()}; failed outside the canary's share: {outside}")
        if outside:
            raise ModelyardError(f"{outside} requests failed that the canary did not answer.")
        self._roll_back_and_forth()

    def _roll_back_and_forth(self) -> None:
        say, operator = self.narrator, self.house.client("otto")
        live = self.house.endpoint(WHERE, MODEL)["deployments"]["live"]["version"]
        row = self._sample(7).head(1)[self.columns]
        where = path("environments", WHERE, "endpoints", MODEL, "rollback")
        say.command(f"modelyard rollback {WHERE}/{MODEL}")
        started = time.perf_counter()
        operator.call("POST", where, body={"reason": "the demo shows the way back"})
        back = None
        while back is None or back == str(live):
            back = next(iter(self.traffic.send(row).versions()))
        took = (time.perf_counter() - started) * 1000
        say.say(f"v{back} answers again after {took:.0f} ms; the version was warm, nothing was retrained")
        operator.call("POST", where, body={"reason": "and forward again"})
        self.house.wait(lambda: str(live) in self.traffic.send(row).versions(), f"v{live} to answer again")
        say.say(f"and v{live} is champion again")

    def _newest_version(self) -> int:
        found = self.house.client("ana").call("GET", path("models", MODEL, "versions"))["versions"]
        return found[0]["version"]

    def _ending(self) -> None:
        say = self.narrator
        say.chapter(7, "What happened, from the drifted column to the new champion")
        for number in (7, 8, 9):
            self._live_through(number, watched=False)
        self._left_alone()
        champion = self.house.first("alias.moved", to=2)
        assert champion is not None, "the second champion was waited for"
        chain = self.house.owner().call("GET", path("events", champion["id"], "chain"))
        events = [*chain["causes"], chain["event"]]
        for event in events:
            say.say(f"{event['type']:<22} {event['data'].get('title') or event['subject']}")
        say.say("")
        say.say(f"{'month':<10} {'left alone':>10} {'with modelyard':>15}")
        for month in self.months:
            say.say(f"{month.name:<10} {month.alone:>10.3f} {month.kept:>15.3f}  (v{month.version})")
        say.command("modelyard audit verify")
        say.say(self.house.command("owner", "audit", "verify").strip())
        if self.report is not None:
            write_report(self.report, say.transcript, self.months, events, say.seconds)
            say.say(f"report: {self.report}")
        if self.keep_running:
            say.say(f"still up: {self.house.url}; stop it with: kill {self.house.pid}")
        else:
            say.say(f"look around: cd {self.folder} && modelyard up")
        say.say(f"done in {say.seconds:.0f} s")

    def _left_alone(self) -> None:
        """What v1 would have answered all the time, computed from its registered files."""
        from modelyard.build.pipelines import model_format
        from modelyard.client.hub import ClientHub

        ana = self.house.client("ana")
        details = ana.call("GET", path("models", MODEL, "versions", 1))
        folder = self.folder / ".modelyard" / "cache" / "version-1"
        ClientHub(ana).download_version(MODEL, 1, details["files"], folder)
        model = model_format.load(folder)
        shutil.rmtree(folder)
        for number, month in enumerate(self.months, start=3):
            rows = self._sample(number)
            month.alone = roc_auc(rows["late"].to_numpy(), model.predict_proba(rows[self.columns])[:, 1])
