"""The MLmodel file of a model's folder; read without any of the model's libraries."""

from pathlib import Path
from typing import Any

from modelyard.domain.errors import Invalid, MissingExtra


def describe(folder: Path) -> dict[str, Any]:
    """The MLmodel description of a folder. Raises Invalid, MissingExtra."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "serve", "Serving a model") from error
    try:
        described = yaml.safe_load((folder / "MLmodel").read_text())
    except FileNotFoundError:
        raise Invalid(f"{folder} holds no MLmodel file.", remedy="Name a folder that log_model wrote.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{folder / 'MLmodel'} is not YAML: {error}.", remedy="Log the model again.") from error
    if not isinstance(described, dict):
        raise Invalid(f"{folder / 'MLmodel'} describes no model.", remedy="Log the model again.")
    return described


def own_libraries(folder: Path) -> str:
    """What the model names for itself, as pip takes it; empty where it names nothing."""
    file = folder / "requirements.txt"
    return f"-r {file}" if file.exists() else ""
