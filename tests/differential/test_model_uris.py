"""`models:/` addresses: the stock client sees the same on `mlflow server`."""

import uuid
from typing import Any

import pytest

from tests.clients import model_uris
from tests.conftest import RunningServer


@pytest.mark.filterwarnings("ignore")
def test_the_client_sees_the_same(server: RunningServer, peer_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = mlflow.get_tracking_uri()
    seen: list[Any] = []
    try:
        for url in (server.url, peer_url):
            mlflow.set_tracking_uri(url)
            seen.append(model_uris.observe(mlflow, f"addresses-{uuid.uuid4().hex[:6]}"))
    finally:
        mlflow.set_tracking_uri(before)
    assert seen[0] == seen[1]
