"""Broken data and a worse model are told from noise and from too little to judge."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from modelyard.deliver.monitoring import quality
from modelyard.deliver.monitoring.labelled import Labelled
from modelyard.domain.project import QualityLimits

LIMITS = QualityLimits(max_regression=0.02)


def scored(seed: int, rows: int, signal: float) -> tuple[Any, Any]:
    """(labels, probabilities) whose AUC rises with `signal`."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(float)
    logits = random.normal(0, 1, rows) + signal * labels - 1
    return labels, 1 / (1 + np.exp(-logits))


def test_the_metrics_are_scikit_learns() -> None:
    labels, scores = scored(0, 5000, 1.0)
    found = quality.check_model(Labelled("binary", labels, scores), {"roc_auc": 0.75}, {}, LIMITS)
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.also["brier"] == pytest.approx(brier_score_loss(labels, scores))
    assert found.also["log_loss"] == pytest.approx(log_loss(labels, scores))


def test_a_fall_beyond_bound_and_noise_is_degraded() -> None:
    labels, scores = scored(1, 5000, 0.4)
    found = quality.check_model(Labelled("binary", labels, scores), {"roc_auc": 0.75}, {"roc_auc": 0.005}, LIMITS)
    assert found.degraded and found.rows == 5000 and "fell" in found.why


def test_the_registered_quality_is_no_alarm() -> None:
    alarms = 0
    for seed in range(40):
        labels, scores = scored(seed, 2000, 1.0)
        alarms += quality.check_model(
            Labelled("binary", labels, scores), {"roc_auc": 0.76}, {"roc_auc": 0.005}, LIMITS
        ).degraded
    assert alarms <= 2


def test_a_fall_within_the_noise_of_few_rows_is_no_alarm() -> None:
    labels, scores = scored(3, 300, 1.0)
    here = roc_auc_score(labels, scores)
    found = quality.check_model(Labelled("binary", labels, scores), {"roc_auc": here + 0.03}, {}, LIMITS)
    assert not found.degraded and found.standard_error is not None and found.standard_error > 0.01


@pytest.mark.parametrize("rows", [0, 1, 50, 199])
def test_too_few_labels_are_said_and_not_judged(rows: int) -> None:
    labels, scores = scored(4, rows, 0.0)
    found = quality.check_model(Labelled("binary", labels, scores), {"roc_auc": 0.99}, {}, LIMITS)
    assert not found.degraded and found.value is None and "too few" in found.why


def test_labels_of_one_class_are_not_judged() -> None:
    found = quality.check_model(
        Labelled("binary", np.zeros(3000), np.linspace(0, 1, 3000)), {"roc_auc": 0.9}, {}, LIMITS
    )
    assert not found.degraded and found.value is None
