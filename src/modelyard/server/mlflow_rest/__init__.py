"""The MLflow REST protocol: the only place where MLflow's words are allowed."""

from modelyard.server.mlflow_rest import artifacts, experiments, logged_models, registry, runs

ROUTES = [
    *experiments.ROUTES,
    *runs.ROUTES,
    *artifacts.ROUTES,
    *logged_models.ROUTES,
    *registry.ROUTES,
]
