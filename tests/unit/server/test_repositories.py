"""A push to a registered repository: signed webhook, real git, real pipelines, the status told to the host."""

import hashlib
import hmac
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.conftest import RunningServer, start_server, wait_until

SECRET = "s3cret-of-the-hook"
PIPELINE = """
import time
from pathlib import Path

import modelyard as yard


@yard.step
def work() -> int:
    {work}
    return 1


@yard.pipeline
def main():
    work()
"""


class Host:
    """A git host's API that records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                host.calls.append((self.path, dict(self.headers), body))
                self.send_response(201)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def states(self, commit: str) -> list[str]:
        return [body["state"] for path, _, body in self.calls if path.endswith(commit)]


class Repo:
    """A bare repository and a clone to commit from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = folder / "team.git", folder / "work"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        subprocess.run(["git", "clone", "-q", str(self.bare), str(self.work)], check=True, capture_output=True)
        (self.work / "modelyard.toml").write_text(
            '[project]\nname = "p"\n[models.m]\ntask = "binary"\npipeline = "pipeline.py:main"\n'
        )

    def commit(self, work: str) -> str:
        (self.work / "pipeline.py").write_text(PIPELINE.format(work=work))
        self._git("add", "-A")
        self._git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "change")
        self._git("push", "-q", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.work), *arguments], check=True, capture_output=True, text=True
        ).stdout


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return Repo(tmp_path_factory.mktemp("git"))


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, host: Host, repo: Repo) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("yard")
    (project / "modelyard.toml").write_text(
        f'[project]\nname = "yard"\n'
        f'[repositories.team]\nurl = "{repo.bare}"\nsecret = "HOOK_SECRET"\n'
        f'api = "{host.url}/repos/team/p"\ntoken = "HOST_TOKEN"\n'
        f'[repositories.lab]\nurl = "{repo.bare}"\nsecret = "HOOK_SECRET"\nkind = "gitlab"\n'
        f'api = "{host.url}/projects/42"\ntoken = "HOST_TOKEN"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK_SECRET", SECRET)
        patch.setenv("HOST_TOKEN", "token-of-the-host")
        running = start_server(project)
        yield running
        running.stop()


def send(yard: RunningServer, commit: str, secret: str = SECRET, branch: str = "main") -> tuple[int, Any]:
    body = json.dumps({"ref": f"refs/heads/{branch}", "after": commit}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": signature, "Content-Type": "application/json"}
    answer = urllib3.request("POST", f"{yard.url}/api/v1/repositories/team/webhook", body=body, headers=headers)
    return answer.status, json.loads(answer.data)


def runs(yard: RunningServer, name: str = "team") -> dict[str, dict[str, Any]]:
    held = yard.client.call("GET", "/api/v1/repositories")["repositories"]
    return {run["commit"]: run for item in held if item["name"] == name for run in item["commit_runs"]}


def test_a_push_runs_the_commits_pipeline_and_its_status_is_told(yard: RunningServer, host: Host, repo: Repo):
    commit = repo.commit("pass")
    status, answer = send(yard, commit)
    assert status == 200 and answer["commit_run"]["commit"] == commit
    wait_until(lambda: host.states(commit)[-1:] == ["success"], "the commit's success", 60)
    assert host.states(commit) == ["pending", "success"]
    _, headers, body = host.calls[-1]
    assert headers["Authorization"] == "Bearer token-of-the-host"
    assert body["context"] == "modelyard"
    assert runs(yard)[commit]["state"] == "passed"
    (pipeline_run,) = yard.client.call("GET", "/api/v1/pipeline-runs")["pipeline_runs"]
    assert pipeline_run["code"]["commit"] == commit
    assert pipeline_run["cause"] == runs(yard)[commit]["cause"]
    assert list((yard.home / "checkouts").iterdir()) == []
    assert send(yard, commit)[1] == {"commit_run": None, "why": "this push was received before"}
    assert len(runs(yard)) == 1


def test_unsigned_and_foreign_pushes_start_nothing(yard: RunningServer):
    before = len(runs(yard))
    status, answer = send(yard, "b" * 40, secret="guessed")
    assert status == 403 and "not signed" in answer["error"]["message"]
    assert send(yard, "b" * 40, branch="feature")[1]["commit_run"] is None
    unknown = urllib3.request("POST", f"{yard.url}/api/v1/repositories/other/webhook", body=b"{}")
    assert unknown.status == 404
    assert len(runs(yard)) == before


def test_a_failing_commit_is_told_with_its_reason(yard: RunningServer, host: Host, repo: Repo):
    commit = repo.commit("raise ValueError('no rows today')")
    send(yard, commit)
    wait_until(lambda: host.states(commit)[-1:] == ["failure"], "the commit's failure", 60)
    assert "no rows today" in host.calls[-1][2]["description"]
    assert runs(yard)[commit]["state"] == "failed"
    gone = "c" * 40
    send(yard, gone)
    wait_until(lambda: host.states(gone)[-1:] == ["failure"], "the failure of a commit that is not there", 60)


def test_the_newest_commit_wins_and_the_older_ones_processes_end(
    yard: RunningServer, host: Host, repo: Repo, tmp_path: Path
):
    started = tmp_path / "pid"
    older = repo.commit(f"Path({str(started)!r}).write_text(str(__import__('os').getpid())); time.sleep(600)")
    send(yard, older)
    wait_until(started.exists, "the older commit's step to run", 60)
    newer = repo.commit("pass; pass")
    send(yard, newer)
    wait_until(lambda: host.states(newer)[-1:] == ["success"], "the newer commit's success", 60)
    found = runs(yard)
    assert (found[older]["state"], found[newer]["state"]) == ("superseded", "passed")
    wait_until(lambda: not Path(f"/proc/{started.read_text()}").exists(), "the older step's process to end", 20)
    wait_until(lambda: host.states(older) == ["pending", "failure"], "the git host to be told of the older", 20)
    kinds = [event["type"] for event in yard.client.call("GET", "/api/v1/events?subject=repository/team")["events"]]
    assert any(kind.endswith("commit.superseded") for kind in kinds)


def test_gitlabs_shapes_both_ways(yard: RunningServer, host: Host, repo: Repo):
    commit = repo.commit("pass; pass; pass")
    body = json.dumps({"ref": "refs/heads/main", "after": commit}).encode()
    headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET, "Content-Type": "application/json"}
    answer = urllib3.request("POST", f"{yard.url}/api/v1/repositories/lab/webhook", body=body, headers=headers)
    assert answer.status == 200
    wait_until(lambda: host.states(commit)[-1:] == ["success"], "the commit's success", 60)
    path, sent, told = host.calls[-1]
    assert path == f"/projects/42/statuses/{commit}"
    assert sent["PRIVATE-TOKEN"] == "token-of-the-host"
    assert told["name"] == "modelyard"
    assert host.states(commit) == ["running", "success"]
