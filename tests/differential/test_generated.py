"""Sequences of calls that Hypothesis makes up: after each, both servers hold the same."""

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.differential.conftest import Pair
from tests.differential.test_tracking import experiment, run

RUNS = ("r0", "r1")
KEYS = st.sampled_from(["a", "b", "val/a", "c d", "../x", "e" * 251, ""])
NUMBERS = st.sampled_from([0, 1.5, -2, "NaN", "Infinity", 1e308, None])
TEXTS = st.sampled_from(["", "1", "2", "it's", 'say "x"', "ünï", "%_", "\\"])
WHOLE = st.sampled_from([0, 1, 2, -3, 10**12])


def call(path: str, **fields: Any) -> Any:
    return st.fixed_dictionaries({"run_id": st.sampled_from([f"{{{name}}}" for name in RUNS]), **fields}).map(
        lambda body: ("POST", f"2.0/mlflow/runs/{path}", {k: v for k, v in body.items() if v is not None})
    )


METRIC: dict[str, Any] = {"key": KEYS, "value": NUMBERS, "timestamp": WHOLE, "step": WHOLE}
PAIR = st.fixed_dictionaries({"key": KEYS, "value": TEXTS})
CALLS = st.one_of(
    call("log-metric", **METRIC),
    call("log-parameter", key=KEYS, value=TEXTS),
    call("set-tag", key=KEYS, value=TEXTS),
    call("delete-tag", key=KEYS),
    call("log-batch", metrics=st.lists(st.fixed_dictionaries(METRIC), max_size=4), params=st.lists(PAIR, max_size=2)),
    call("log-batch", tags=st.lists(PAIR, max_size=2), params=st.lists(PAIR, max_size=2)),
    call("update", status=st.sampled_from(["RUNNING", "FINISHED", None]), run_name=st.sampled_from(["n", "", None])),
    call("delete"),
    call("restore"),
)
COMPARED = ("=", "!=", "LIKE", "ILIKE", "<", ">=")
LITERALS = ("1", "-2", "1.5", "'1'", "'%'", "'IT_S'", "NaN")
ENTITIES = (
    "metrics.a",
    "metrics.`val/a`",
    "params.a",
    "tags.b",
    "attributes.run_name",
    "attributes.status",
    "end_time",
)
CLAUSES = st.tuples(*(st.sampled_from(words) for words in (ENTITIES, COMPARED, LITERALS))).map(" ".join)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(CALLS, min_size=4, max_size=12), st.lists(CLAUSES, min_size=1, max_size=2))
def test_made_up_sequences(pair: Pair, calls: list[Any], clauses: list[str]) -> None:
    experiment(pair)
    for index, name in enumerate(RUNS):
        run(pair, name, start_time=1000 + index)
    for method, path, body in calls:
        pair.same(method, path, body)
    for name in RUNS:
        pair.same("GET", "2.0/mlflow/runs/get", run_id=f"{{{name}}}")
    for key in ("a", "val/a"):
        pair.same("GET", "2.0/mlflow/metrics/get-history", run_id="{r0}", metric_key=key)
    for wanted in (clauses[0], " AND ".join(clauses)):
        body = {"experiment_ids": ["{e}"], "filter": wanted, "order_by": ["metrics.a DESC", "start_time"]}
        pair.same("POST", "2.0/mlflow/runs/search", {**body, "run_view_type": "ALL"})
    assert not pair.differences
