"""What starts fast loads little: the server, the command line and the gateway import no heavy library."""

import pkgutil
import subprocess
import sys

import pytest

from modelyard import server

HEAVY = {"numpy", "pandas", "pyarrow", "sklearn", "scipy", "mlflow", "apprise", "alembic", "jinja2", "rich", "yaml"}

FIRST = """
import os, sys
import click, msgspec, sqlalchemy, starlette.applications, starlette.responses, urllib3

for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            __import__(name)
        except ImportError as error:
            os.write(1, f"{name}: {error}\\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
"""


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


@pytest.mark.slow
def test_every_module_of_the_server_can_be_the_first() -> None:
    """Each is imported in a fork of a process that has loaded nothing of modelyard's server."""
    names = [found.name for found in pkgutil.walk_packages(server.__path__, "modelyard.server.")]
    assert "modelyard.server.pages.endpoints" in names
    done = subprocess.run([sys.executable, "-c", FIRST, *names], capture_output=True, text=True, check=True)
    assert done.stdout == ""
