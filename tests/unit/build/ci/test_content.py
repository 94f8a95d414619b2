"""Content digests: equal for what was computed alike, different for what was not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelyard.build.ci.content import content_digest
from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.evaluation import Evaluation


def digest(root: Path, value: Any) -> str:
    cache = Cache(root)
    return content_digest(cache, cache.save(value))


def model(seed: int) -> Any:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 3))
    classifier = HistGradientBoostingClassifier(max_iter=5, random_state=seed, max_features=0.5)
    return make_pipeline(StandardScaler(), classifier).fit(rows, rows[:, 0] + random.normal(size=300) > 0)


def test_two_fits_with_one_seed_are_the_same_and_with_another_are_not(tmp_path: Path):
    first, second, other = (digest(tmp_path / name, model(seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == second
    assert first != other


def test_timings_do_not_count_and_metrics_do(tmp_path: Path):
    def evaluation(**metrics: float) -> str:
        return digest(tmp_path, Evaluation(metrics, {}, 10, "d"))

    assert evaluation(roc_auc=0.7, latency_p50_ms=1.0) == evaluation(roc_auc=0.7, latency_p50_ms=2.0)
    assert evaluation(roc_auc=0.7) != evaluation(roc_auc=0.71)


@pytest.mark.parametrize("value", [float("nan"), {"a": [1, 2.5, None, "x"]}, [], ["long " * 2000]])
def test_any_json_value_has_a_digest(tmp_path: Path, value: Any):
    assert digest(tmp_path / "a", value) == digest(tmp_path / "b", value)
