"""The yard: what every handler and loop works with."""

from dataclasses import dataclass, field
from pathlib import Path

from modelyard.deliver.serving.certificates import Certificates
from modelyard.domain.project import Project
from modelyard.events.dispatch import Dispatcher
from modelyard.server.readings import Readings
from modelyard.server.settings import Settings
from modelyard.store.database import Store
from modelyard.store.objects.port import Objects


@dataclass
class Yard:
    store: Store
    objects: Objects
    home: Path
    project_dir: Path
    project: Project
    settings: Settings
    service_tokens: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    dispatcher: Dispatcher = field(default_factory=Dispatcher)
    readings: Readings = field(default_factory=Readings)
    certificates: Certificates | None = None
    """Those that this server's HTTPS has in force."""
