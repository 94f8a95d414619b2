"""Every table of the yard, one module a subject, on one `metadata`."""

from modelyard.store.tables import delivery, events, identity, monitoring, pipelines, registry, tracking
from modelyard.store.tables.base import metadata

__all__ = ["delivery", "events", "identity", "metadata", "monitoring", "pipelines", "registry", "tracking"]
