"""Every route of the MLflow REST protocol."""

from modelyard.server.mlflow_rest import (
    artifacts,
    experiments,
    logged_models,
    metrics,
    multipart,
    registry,
    runs,
    server_info,
    webhooks,
)

ROUTES = [
    *experiments.ROUTES,
    *runs.ROUTES,
    *metrics.ROUTES,
    *artifacts.ROUTES,
    *multipart.ROUTES,
    *logged_models.ROUTES,
    *registry.ROUTES,
    *server_info.ROUTES,
    *webhooks.ROUTES,
]
