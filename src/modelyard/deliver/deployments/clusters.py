"""What workers on a Ray cluster need of this machine."""

import importlib.util

from modelyard.domain.errors import MissingExtra


def require_ray() -> None:
    """Raise MissingExtra where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("ray", "ray", "Serving on Ray")
