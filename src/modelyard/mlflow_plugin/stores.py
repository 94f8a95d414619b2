"""MLflow's tracking and registry stores over a yard in this process: its own REST stores, without the HTTP."""

import json
from typing import Any

from mlflow.exceptions import RestException
from mlflow.store.model_registry.rest_store import RestStore as RegistryRestStore
from mlflow.store.tracking.rest_store import RestStore as TrackingRestStore
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.rest_utils import MlflowHostCreds

from modelyard.mlflow_plugin.yard import home_of, local_yard

HERE, SERVED = "modelyard:/", "mlflow-artifacts:/"
"""How the place of artifacts is written for MLflow in this process, and by the server."""


def ask(store_uri: str, endpoint: str, method: str, json_body: str | None, answer: Any) -> Any:
    """Fill the protobuf `answer` from the yard's. Raises RestException as over HTTP."""
    asked = json.loads((json_body or "{}").replace(f'"{HERE}', f'"{SERVED}'))
    query, body = (_query(asked), None) if method == "GET" else ({}, asked)
    got = local_yard(home_of(store_uri)).ask(method, endpoint, query, body)
    text = got.body.decode().replace(f'"{SERVED}', f'"{HERE}')
    if got.status != 200:
        raise RestException(json.loads(text))
    parse_dict(json.loads(text), answer)
    return answer


def _query(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in asked.items()}


def _nowhere() -> MlflowHostCreds:
    """The host of what MLflow prints or sends by itself; nothing listens there."""
    return MlflowHostCreds("modelyard://")


class TrackingStore(TrackingRestStore):
    """`mlflow.tracking_store` for modelyard://."""

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        self._uri = store_uri
        super().__init__(_nowhere)

    def _validate_workspace_support_if_specified(self) -> None:
        return

    def _call_endpoint(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow's is untyped
        self,
        api: Any,
        json_body: str | None = None,
        endpoint: str | None = None,
        retry_timeout_seconds: float | None = None,
        response_proto: Any = None,
    ) -> Any:
        known = self._V3_METHOD_TO_INFO if api in self._V3_APIS else self._METHOD_TO_INFO
        usual, method = known[api]
        return ask(self._uri, endpoint or usual, method, json_body, response_proto or api.Response())


class RegistryStore(RegistryRestStore):
    """`mlflow.model_registry_store` for modelyard://."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        self._uri = store_uri
        super().__init__(_nowhere)

    def _validate_workspace_support_if_specified(self) -> None:
        return

    def _call_endpoint(  # pyright: ignore[reportIncompatibleMethodOverride] - MLflow's is untyped
        self, api: Any, json_body: str | None, call_all_endpoints: bool = False, extra_headers: Any = None
    ) -> Any:
        answer = self._get_response_from_method(api)
        endpoint, method = self._get_endpoint_from_method(api)
        return ask(self._uri, endpoint, method, json_body, answer)
