"""The console's routes, all of them."""

from modelyard.server.pages import (
    alerts,
    artifacts,
    assets,
    endpoints,
    events,
    home,
    models,
    pipelines,
    principals,
    runs,
    schedules,
    session,
    version,
)

ROUTES = [
    *assets.ROUTES,
    *session.ROUTES,
    *home.ROUTES,
    *runs.ROUTES,
    *artifacts.ROUTES,
    *models.ROUTES,
    *version.ROUTES,
    *endpoints.ROUTES,
    *alerts.ROUTES,
    *events.ROUTES,
    *pipelines.ROUTES,
    *schedules.ROUTES,
    *principals.ROUTES,
]
