"""The dashboard asks for what the gateways tell, and fits on Grafana's grid."""

import json
import re

from modelyard.deliver.monitoring import grafana
from modelyard.deliver.serving.stats import Counters, prometheus


def test_every_metric_of_the_dashboard_is_told_by_the_gateways_with_its_labels() -> None:
    told = prometheus({("flights", "d1", 1): Counters()}, {"flights": 0})
    made = json.loads(grafana.dashboard())
    queries = [target["expr"] for panel in made["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"modelyard_\w+", query)}
    assert len(asked) > 6 and all(re.search(rf"^{name}\{{", told, re.M) for name in asked)
    for query in queries:
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
        for label in re.findall(r"sum by \(([^)]*)\)", query):
            name = re.findall(r"modelyard_\w+", query)[0]
            line = next(line for line in told.splitlines() if line.startswith(name + "{"))
            assert all(f'{wanted}="' in line for wanted in label.split(", "))


def test_panels_have_ids_and_do_not_overlap() -> None:
    panels = json.loads(grafana.dashboard())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(target["datasource"]["uid"] == "${source}" for panel in panels for target in panel["targets"])
