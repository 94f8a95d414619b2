"""The page's models are logged as it says, and a worker answers for them as the page says."""

from pathlib import Path

import numpy as np
import pytest

from modelyard.deliver.serving.errors import BadInput
from modelyard.deliver.serving.loading import Loaded, load
from tests.docs.terminal import Terminal, blocks

PAGE = "how-to/serve-other-flavors.md"
FETCH = "import mlflow; mlflow.artifacts.download_artifacts('models:/{name}/1', dst_path='{name}')"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


def logged(terminal: Terminal, number: int, name: str) -> Loaded:
    """The page's model of that name, logged, registered and loaded as a worker loads it."""
    (terminal.folder / "modelyard.toml").write_text('[project]\nname = "flavors"\n')
    (terminal.folder / "train.py").write_text(blocks(PAGE, "python")[number])
    terminal.must(blocks(PAGE)[0])
    terminal.must("python train.py")
    terminal.must(f'python -c "{FETCH.format(name=name)}"')
    (described,) = (terminal.folder / name).rglob("MLmodel")
    return load(described.parent)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, keep="MLFLOW")


def test_text_and_numbers(terminal: Terminal):
    loaded = logged(terminal, 0, "people")
    found = loaded.predict({"age": [33.0, None], "city": ["Oslo", "Atlantis"]})
    assert found.shape == (2, 2)


def test_categories(terminal: Terminal):
    loaded = logged(terminal, 1, "cities")
    assert loaded.predict({"age": [57], "city": ["Bonn"]}).tolist() == [1]
    unknown, missing = (loaded.predict({"age": [57], "city": [city]}) for city in ("Atlantis", None))
    assert unknown.tolist() == missing.tolist()


def test_a_model_of_ones_own(terminal: Terminal):
    loaded = logged(terminal, 2, "sum")
    assert not loaded.vectorised
    found = loaded.predict({"a": [1.0], "b": [3.0]}, times=2)
    assert np.asarray(found).tolist() == [5.0]
    with pytest.raises(BadInput, match=r"Missing column\(s\): b"):
        loaded.signature.take({"a": [1.0]}, 1)
