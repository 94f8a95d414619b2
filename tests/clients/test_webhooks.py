"""The stock MLflow client's webhook calls."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException

pytestmark = pytest.mark.filterwarnings("ignore")


def test_webhooks_are_made_listed_changed_tried_and_removed(mlflow: Any) -> None:
    client = mlflow.MlflowClient()
    made = client.create_webhook(
        name="ci",
        url="https://ci.invalid/hook",
        events=["model_version.created", "model_version_alias.created"],
        description="build it",
        secret="s3cret",
    )
    assert client.get_webhook(made.webhook_id).url == "https://ci.invalid/hook"
    assert [str(event) for event in made.events] == ["model_version.created", "model_version_alias.created"]
    assert made.webhook_id in [item.webhook_id for item in client.list_webhooks()]
    changed = client.update_webhook(made.webhook_id, status="DISABLED", events=["registered_model.created"])
    assert str(changed.status) == "DISABLED" and changed.secret is None
    tried = client.test_webhook(made.webhook_id)
    assert not tried.success and "ci.invalid" in tried.error_message
    client.delete_webhook(made.webhook_id)
    with pytest.raises(MlflowException, match="no webhook"):
        client.get_webhook(made.webhook_id)


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://127.0.0.1:9/", "file:///etc/passwd"])
def test_a_forbidden_place_is_refused(mlflow: Any, url: str) -> None:
    with pytest.raises(MlflowException):
        mlflow.MlflowClient().create_webhook(name="x", url=url, events=["registered_model.created"])
