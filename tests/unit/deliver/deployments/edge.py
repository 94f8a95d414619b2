"""A far machine for tests: an agent of a yard that is up."""

import json
import subprocess
import sys
from pathlib import Path

from modelyard.client.api import path
from tests.unit.deliver.deployments.house import House, ask_gateway


class Edge:
    """The far machine: an agent with a credential of its own, and nothing else of the yard."""

    def __init__(self, house: House, folder: Path, *options: str) -> None:
        self.house, self.folder = house, folder
        owner = house.client()
        body = {"name": "edge", "roles": ["service-endpoint"], "kind": "service"}
        owner.call("POST", path("principals"), body=body)
        self.token = owner.call("POST", path("tokens"), body={"principal": "edge"})["token"]
        command = [sys.executable, "-m", "modelyard", "serve-agent", "--hub", house.note("server")["url"]]
        command += ["--environment", "production", "--home", str(folder / "agent"), "--port", "0", "--name", "edge-1"]
        command += options
        environment = {**house.environment, "MODELYARD_TOKEN": self.token}
        with (folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        """Its gateway's."""
        note = self.folder / "agent" / "run" / "gateway-production.json"
        return json.loads(note.read_text())["url"]

    def ask(self) -> tuple[int, str]:
        return ask_gateway(self.url, self.house.tokens["otto"], "m", 1.0)

    def serves(self, number: int) -> bool:
        try:
            return self.ask() == (200, str(number))
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
