"""What every run that the stock client starts is tagged with: code state, environment, pipeline step."""

import os
import subprocess

from mlflow.tracking.context.abstract_context import RunContextProvider

from modelyard.mlflow_plugin.environment import environment_digest
from modelyard.mlflow_plugin.requirements import install

COMMIT, DIRTY = "mlflow.source.git.commit", "modelyard.git.dirty"
ENVIRONMENT, STEP = "modelyard.environment", "modelyard.step"


class RunContext(RunContextProvider):
    """Loaded by MLflow through its entry point; the first run also makes `log_model` quick."""

    def in_context(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - untyped in MLflow
        install()
        return True

    def tags(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride] - untyped in MLflow
        found = {ENVIRONMENT: environment_digest()}
        commit = _git("rev-parse", "HEAD")
        if commit:
            found |= {COMMIT: commit, DIRTY: "true" if _git("status", "--porcelain", "-uno") else "false"}
        step = os.environ.get("MODELYARD_STEP")
        return found | ({STEP: step} if step else {})


def _git(*arguments: str) -> str:
    """What git says of the current folder; empty where there is no repository or no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
