"""Purging: what was deleted goes with its rows and artifacts, what is registered stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from modelyard.build.tracking import artifacts, experiments, logged_models, runs
from modelyard.build.tracking.metrics import Metric
from modelyard.build.tracking.purge import Purged, purge
from modelyard.kit.clock import now_ms
from modelyard.store.database import Store
from modelyard.store.objects.local import Blob
from modelyard.store.tables.tracking import latest_metrics, metric_points, run_params, run_tags


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def made(conn: Connection, name: str) -> tuple[int, str]:
    """An experiment with one run that holds something of everything."""
    experiment = experiments.create(conn, name, actor="ana").id
    run = runs.create(conn, experiment, actor="ana", name="r", tags={"a": "1"}).id
    runs.log_batch(conn, run, [Metric("auc", 0.5, 1), Metric("auc", float("nan"), 2)], {"depth": "3"})
    artifacts.put(conn, f"{artifacts.run_root(experiment, run)}/a.txt", Blob("a" * 64, 1))
    return experiment, run


def test_a_deleted_run_leaves_nothing(store: Store) -> None:
    kept, gone = store.write_now(lambda conn: made(conn, "kept")), store.write_now(lambda conn: made(conn, "other"))
    store.write_now(lambda conn: runs.change(conn, gone[1], actor="ana", lifecycle=experiments.DELETED))
    assert store.write_now(lambda conn: purge(conn, 0)) == Purged(0, 0, 0, 0, False)
    assert store.write_now(lambda conn: purge(conn, now_ms())) == Purged(1, 0, 0, 1, False)
    for table in (run_params, latest_metrics):
        assert (
            store.read_now(lambda conn, table=table: conn.execute(select(func.count()).select_from(table)).scalar())
            == 1
        )
    for table in (run_tags, metric_points):
        found = store.read_now(lambda conn, table=table: conn.execute(select(table.c.run).distinct()).scalars().all())
        assert len(found) == 1
    assert store.read_now(lambda conn: artifacts.under(conn, str(gone[0]))) == []
    assert len(store.read_now(lambda conn: artifacts.under(conn, str(kept[0])))) == 1


def test_a_deleted_experiment_goes_when_it_is_empty(store: Store) -> None:
    number, _ = store.write_now(lambda conn: made(conn, "gone"))
    model = store.write_now(lambda conn: logged_models.create(conn, number, actor="ana", name="m", run_id=None))
    store.write_now(lambda conn: experiments.change(conn, number, actor="ana", lifecycle=experiments.DELETED))
    assert store.write_now(lambda conn: purge(conn, now_ms())).experiments == 0
    store.write_now(lambda conn: logged_models.change(conn, model.id, deleted=True))
    done = store.write_now(lambda conn: purge(conn, now_ms()))
    assert (done.logged_models, done.experiments) == (1, 1)
