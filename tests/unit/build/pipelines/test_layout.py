"""Where nodes are drawn, and what a sub-pipeline, a fan-out and a branch look like."""

import xml.etree.ElementTree as Xml

import modelyard as yard
from modelyard.build.pipelines.drawing import as_svg, as_text
from modelyard.build.pipelines.layout import arrange


@yard.step
def load() -> list[int]:
    return [1]


@yard.step
def depths() -> list[int]:
    return [1, 2]


@yard.step
def fit(depth: int, rows: list[int]) -> int:
    return depth


@yard.step
def choose(models: list[int], rows: list[int]) -> int:
    return models[0]


@yard.step
def good(best: int) -> bool:
    return best > 0


@yard.step
def tell(best: int) -> str:
    return "done"


@yard.pipeline
def tuning(rows: list[int]) -> int:
    return choose(fit.map(depths(), rows=rows), rows)


@yard.pipeline
def main():
    best = tuning(load())
    yard.when(good(best), lambda: tell(best), lambda: tell(best))


def test_every_node_is_right_of_what_it_needs_and_none_lies_on_another():
    layout = arrange(main.trace({}))
    columns = {spot.node.name: spot.column for spot in layout.spots if spot.node is not None}
    assert all(columns[parent.name] < columns[node.name] for parent, node, _ in layout.edges)
    assert len({(spot.column, spot.row) for spot in layout.spots}) == len(layout.spots)


def test_an_edge_over_several_columns_passes_no_node():
    layout = arrange(main.trace({}))
    taken = {(spot.column, spot.row) for spot in layout.spots}
    between = [spot for _, _, spots in layout.edges for spot in spots[1:-1]]
    assert between and all((spot.column, spot.row) not in taken for spot in between)


def test_text_names_sub_pipelines_fan_outs_and_branches():
    assert as_text(main.trace({})).splitlines() == [
        "main()",
        "  load",
        "  tuning:",
        "    depths",
        "    fit      <- depths, load  [map over depths]",
        "    choose   <- fit, load",
        "  good       <- choose",
        "  tell       <- choose, good  [only if good]",
        "  tell-2     <- choose, good  [only if not good]",
        "  when-good  <- good, tell, tell-2  [choose tell or tell-2]",
    ]


def test_the_picture_shows_them_too():
    drawn = Xml.fromstring(as_svg(main.trace({})))
    texts = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"in tuning · map over depths", "only if not good", "yes", "no"} <= texts
