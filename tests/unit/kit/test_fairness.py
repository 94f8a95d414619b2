"""Clarify's measures, by hand on tables that are small enough to count."""

import numpy as np
import pytest

from modelyard.kit import fairness

GROUP = np.repeat([False, True], [200, 100])
TRUE = np.concatenate([np.arange(200) < 120, np.arange(100) < 40])
SAID = np.concatenate([np.arange(200) < 100, (np.arange(100) >= 20) & (np.arange(100) < 50)])
"""Others: 120 of 200 are, 100 are said to be, all rightly. Group: 40 of 100 are, 30 are said to be, 20 rightly."""


def test_labels_alone_show_what_was_there_before_training() -> None:
    found = fairness.of_labels(TRUE, GROUP)
    assert found["class_imbalance"] == pytest.approx((200 - 100) / 300)
    assert found["total_variation"] == found["kolmogorov_smirnov"] == pytest.approx(0.2)
    assert found["lp_norm"] == pytest.approx(0.2 * 2**0.5)
    expected = 0.6 * np.log(0.6 / 0.4) + 0.4 * np.log(0.4 / 0.6)
    assert found["kl_divergence"] == pytest.approx(expected)
    assert 0 < found["js_divergence"] < expected
    assert fairness.of_class(TRUE, GROUP) == {"difference_in_label_proportions": pytest.approx(0.2)}
    same = fairness.of_labels(np.tile([0, 1, 2], 100), GROUP)
    assert same["kl_divergence"] < 1e-3 and list(fairness.of_labels(TRUE[195:205], GROUP[195:205])) == [
        "class_imbalance"
    ]


def test_predictions_show_how_the_groups_are_treated() -> None:
    found = fairness.of_class(TRUE, GROUP, SAID)
    expected = {
        "difference_in_positive_proportions": 100 / 200 - 30 / 100,
        "disparate_impact": 0.3 / 0.5,
        "difference_in_conditional_acceptance": 120 / 100 - 40 / 30,
        "difference_in_conditional_rejection": 80 / 100 - 60 / 70,
        "recall_difference": 100 / 120 - 20 / 40,
        "specificity_difference": 80 / 80 - 50 / 60,
        "difference_in_acceptance_rates": 100 / 100 - 20 / 30,
        "difference_in_rejection_rates": 80 / 100 - 50 / 70,
        "accuracy_difference": 180 / 200 - 70 / 100,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert "treatment_equality" not in found, "no false positive among the others: too few to divide by"
