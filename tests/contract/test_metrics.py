"""One metric at a time, on either database: the same points, the same newest, the same refusals."""

import math

import pytest
from sqlalchemy import Connection

from modelyard.build.tracking import experiments, logged_models, runs
from modelyard.build.tracking.metrics import Metric
from modelyard.domain.errors import Invalid, NotFound
from modelyard.store.database import Store


def made(conn: Connection) -> str:
    experiments.ensure_default(conn, actor="ana")
    return runs.create(conn, experiments.DEFAULT_ID, actor="ana", name="r").id


def test_points_are_kept_once_and_the_newest_by_step(store: Store) -> None:
    run = store.write_now(made)
    points = [Metric("m", 0.5, 10, 1), Metric("m", 0.7, 20, 3), Metric("m", 0.6, 30, 2), Metric("m", 0.5, 10, 1)]
    for point in [*points, Metric("n", math.nan, 1, 0), Metric("i", -math.inf, 1, 0)]:
        store.write_now(lambda conn, point=point: runs.log_metric(conn, run, point))
    found = {metric.key: metric for metric in store.read_now(lambda conn: runs.get(conn, run)).metrics}
    assert (found["m"].value, found["m"].step, found["m"].time) == (0.7, 3, 20)
    assert math.isnan(found["n"].value) and found["i"].value == -math.inf
    curve = store.read_now(lambda conn: runs.history(conn, run, "m"))
    assert [(point.step, point.value) for point in curve] == [(1, 0.5), (2, 0.6), (3, 0.7)]


def test_an_unknown_and_a_deleted_run_take_none(store: Store) -> None:
    run = store.write_now(made)
    store.write_now(lambda conn: runs.change(conn, run, actor="ana", lifecycle="deleted"))
    with pytest.raises(Invalid, match="must be in the 'active' state"):
        store.write_now(lambda conn: runs.log_metric(conn, run, Metric("m", 1.0, 1)))
    with pytest.raises(NotFound):
        store.write_now(lambda conn: runs.log_metric(conn, "0" * 32, Metric("m", 1.0, 1)))


def test_a_metric_of_a_model_is_kept_with_it(store: Store) -> None:
    run = store.write_now(made)
    model = store.write_now(
        lambda conn: logged_models.create(conn, experiments.DEFAULT_ID, actor="ana", name="m", run_id=run).id
    )
    store.write_now(lambda conn: runs.log_metric(conn, run, Metric("m", 1.0, 1, 0, model)))
    assert store.read_now(lambda conn: runs.get(conn, run)).metrics[0].value == 1.0
    with pytest.raises(Invalid, match="not found"):
        store.write_now(lambda conn: runs.log_metric(conn, run, Metric("m", 1.0, 1, 0, "m-1")))
