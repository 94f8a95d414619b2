"""What starts fast loads little: the server, the command line and the gateway import no heavy library."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "pyarrow", "sklearn", "scipy", "mlflow", "apprise", "alembic", "jinja2", "rich", "yaml"}


@pytest.mark.parametrize(
    ("module", "beyond"),
    [
        ("modelyard", {"click", "sqlalchemy", "starlette", "msgspec"}),
        ("modelyard.cli.main", {"sqlalchemy", "starlette", "urllib3"}),
        ("modelyard.deliver.serving.gateway", {"sqlalchemy", "starlette", "click"}),
        ("modelyard.server.app", {"urllib3"}),
    ],
)
def test_no_heavy_library_is_loaded(module: str, beyond: set[str]):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & (HEAVY | beyond) == set()
