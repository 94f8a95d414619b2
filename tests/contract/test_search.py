"""Searches over more runs than a condition may start from: every clause with every order, against plain Python."""

from collections.abc import Callable
from itertools import product

import pytest
from sqlalchemy import Connection, text

from modelyard.build.tracking import experiments, runs, search
from modelyard.build.tracking.metrics import Metric
from modelyard.build.tracking.runs import Run
from modelyard.store.database import Store

MANY = search.FEW + 300

FILTERS: dict[str, Callable[[int], bool]] = {
    "": lambda n: True,
    "metrics.loss >= 100": lambda n: n >= 100,
    "metrics.loss < 5": lambda n: n < 5,
    "params.kind = 'even'": lambda n: n % 2 == 0,
    "params.kind LIKE '%d%' AND metrics.loss > 7": lambda n: n % 2 == 1 and n > 7,
    "tags.third IS NOT NULL AND params.kind != 'odd'": lambda n: n % 6 == 0,
    "tags.third IS NULL AND metrics.loss >= 1": lambda n: n % 3 != 0 and n >= 1,
}
ORDERS: dict[str, Callable[[int], tuple[int, ...]]] = {
    "metrics.loss DESC": lambda n: (-n,),
    "metrics.cost ASC": lambda n: (n % 10, -n),
    "params.kind ASC": lambda n: (n % 2, -n),
    "tags.third DESC": lambda n: (int(n % 3 != 0), -n),
    "attributes.start_time ASC": lambda n: (n,),
}


@pytest.fixture
def experiment(store: Store) -> int:
    def fill(conn: Connection) -> int:
        made = experiments.create(conn, "many", actor="ana").id
        for n in range(MANY):
            tags = {"third": "yes"} if n % 3 == 0 else {}
            run = runs.create(conn, made, actor="ana", name=str(n), tags=tags, started_at=1_000 + n).id
            kind = {"kind": "odd" if n % 2 else "even"}
            runs.log_batch(conn, run, [Metric("loss", n, 1), Metric("cost", n % 10, 1)], kind)
        conn.execute(text("ANALYZE"))  # as PostgreSQL does by itself within a minute
        return made

    return store.write_now(fill)


def test_many_runs_are_found_in_order(store: Store, experiment: int) -> None:
    for (wanted, matches), (order, key) in product(FILTERS.items(), ORDERS.items()):
        expected = sorted((n for n in range(MANY) if matches(n)), key=key)
        for offset in (0, 5):

            def page(conn: Connection, wanted: str = wanted, order: str = order, offset: int = offset) -> list[Run]:
                return search.search_runs(conn, [experiment], wanted, order_by=[order], limit=50, offset=offset)

            found = [int(run.name) for run in store.read_now(page)]
            assert found == expected[offset : offset + 50], (wanted, order, offset)
