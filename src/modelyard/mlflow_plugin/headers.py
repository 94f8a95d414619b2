"""The stored credential on the stock client's requests, and only on those to this yard's own server."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider

from modelyard.mlflow_plugin.requirements import install_if_models
from modelyard.mlflow_plugin.yard import yard_home

OWN = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_AUTH")


class StoredCredential(RequestHeaderProvider):
    """Loaded by MLflow through its entry point."""

    def in_context(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - untyped in MLflow
        install_if_models()  # a model may be logged without a run, which no run context hears of
        return self._token() is not None

    def request_headers(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        token = self._token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _token(self) -> str | None:
        if any(os.environ.get(name) for name in OWN):
            return None
        import mlflow  # late: this module is loaded while the library starts

        home = yard_home(Path.cwd())
        if home is None:
            return None
        try:
            ours = json.loads((home / "run" / "server.json").read_text())["url"]
            if urlsplit(ours)[:2] != urlsplit(mlflow.get_tracking_uri())[:2]:
                return None
            stored = json.loads((home / "credentials.json").read_text())["local"]["token"]
        except (OSError, ValueError, KeyError):
            return None
        return os.environ.get("MODELYARD_TOKEN") or stored
