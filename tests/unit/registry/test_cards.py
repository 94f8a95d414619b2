"""Model cards and lineage: what is stored, nothing invented, safe to open anywhere."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from modelyard.build.tracking import artifacts, experiments, runs
from modelyard.domain.permissions import SYSTEM
from modelyard.registry import card_page, cards, evidence, lineage, models, versions
from modelyard.server import registration
from modelyard.store.database import Store
from modelyard.store.objects.port import Blob

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'yard.db'}")
    yield opened
    opened.close()


def made(conn: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
    models.create(conn, "m", actor="ana")
    file = versions.ManifestFile("model.bin", "ab" * 32, 3)
    version = versions.register(
        conn,
        "m",
        [file],
        actor=SYSTEM,
        source="models:/m-1",
        model_id="m-1",
        pipeline_run_id="p1",
        description=EVIL,
        lineage={"params": {"depth": EVIL}, "code": {"commit": "c0ffee"}},
    )
    content = {
        "metrics": {"auc": 0.75},
        "standard_errors": {"auc": 0.01},
        "rows": 1000,
        "dataset": "da7a" * 16,
        "slices": [{"by": "carrier", "value": EVIL, "rows": 10, "metrics": {"auc": 0.5}}],
    }
    evidence.attach(conn, "m", 1, evidence.EVALUATION, content, actor="ana")
    return cards.card(conn, version), lineage.graph(conn, version)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_runs_nothing(store: Store) -> None:
    html = card_page.page(*store.write_now(made))
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.found and "link" not in tags.found and tags.addresses == []
    assert EVIL not in html and "&lt;script&gt;" in html
    assert "0.75" in html and "1000" in html and "No gate was evaluated" in html
    assert tags.found.count("svg") == 1 and tags.found.count("rect") == 5


def test_the_graph_leads_from_cause_to_result(store: Store) -> None:
    _, graph = store.write_now(made)
    ids = {node["id"] for node in graph["nodes"]}
    assert all(edge["from"] in ids and edge["to"] in ids for edge in graph["edges"])
    pairs = {(edge["from"], edge["to"]) for edge in graph["edges"]}
    assert ("logged model:m-1", "version:m/1") in pairs
    assert ("pipeline run:p1", "logged model:m-1") in pairs
    assert ("code:c0ffee", "pipeline run:p1") in pairs
    assert (f"dataset:{'da7a' * 16}", "version:m/1") in pairs


def test_a_version_of_which_nothing_is_known_has_a_card_too(store: Store) -> None:
    def work(conn: Connection) -> str:
        models.create(conn, "bare", actor="ana")
        file = versions.ManifestFile("f", "ab" * 32, 3)
        version = versions.register(conn, "bare", [file], actor=SYSTEM, source="models:/m-2")
        return card_page.page(cards.card(conn, version), lineage.graph(conn, version))

    html = store.write_now(work)
    assert "No evaluation is stored" in html and "No description yet" in html


def test_environment_and_parent_are_part_of_it(store: Store) -> None:
    """A version's parent is the champion of the moment when it was registered."""

    def work(conn: Connection) -> dict[str, Any]:
        made(conn)
        versions.set_alias(conn, "m", versions.CHAMPION, 1, actor="ana")
        file = versions.ManifestFile("model.bin", "cd" * 32, 3)
        known = {"code": {"environment": "e" * 64}}
        version = versions.register(conn, "m", [file], actor=SYSTEM, source="models:/m-2", lineage=known)
        assert version.lineage == {"parent": 1, **known}
        return lineage.graph(conn, version)

    graph = store.write_now(work)
    edges = {(edge["from"], edge["how"], edge["to"]) for edge in graph["edges"]}
    assert ("version:m/1", "was champion before", "version:m/2") in edges
    assert (f"environment:{'e' * 64}", "held the libraries of", "version:m/2") in edges
    assert card_page.lineage_page(EVIL, graph).count("<script") == 0


def test_a_stock_clients_run_tells_of_code_environment_and_parameters(store: Store) -> None:
    def work(conn: Connection) -> dict[str, Any]:
        models.create(conn, "m", actor="ana")
        experiments.ensure_default(conn, actor="ana")
        tags = {"mlflow.source.git.commit": "c0ffee", "modelyard.environment": "e1"}
        run = runs.create(conn, experiments.DEFAULT_ID, actor="ana", name="r", tags=tags)
        runs.log_param(conn, run.id, "depth", "3")
        artifacts.put(conn, f"{artifacts.run_root(run.experiment_id, run.id)}/model/model.bin", Blob("ab" * 32, 3))
        return registration.register(conn, "m", f"runs:/{run.id}/model", actor=SYSTEM).lineage

    assert store.write_now(work) == {"params": {"depth": "3"}, "code": {"commit": "c0ffee", "environment": "e1"}}
