"""A pipeline's graph as text and as SVG."""

from collections.abc import Iterator
from html import escape
from typing import Any

from modelyard.build.pipelines.layout import Layout, Spot, arrange
from modelyard.build.pipelines.nodes import CHOOSE, MAP, STEP, Graph, Node, Output

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 176, 48, 64, 20, 20
LONGEST = 23
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b2733;text-anchor:middle;dominant-baseline:middle}"
    "text.note{font-size:10.5px;fill:#55677a}text.way{font-size:11px;fill:#7a5710;stroke:#fff;stroke-width:3px;paint-order:stroke}.page{fill:#fff}"
    ".box{fill:#eef4fb;stroke:#3a6ea5}.box.register{fill:#e9f6ec;stroke:#2f7d4f}"
    ".box.map,.box.choose,.box.gather{fill:#fdf5e2;stroke:#a87a1c}"
    "path.edge{fill:none;stroke:#6b7c8d;marker-end:url(#a)}path.guard{stroke:#a87a1c;stroke-dasharray:5 4}"
)


def as_text(graph: Graph) -> str:
    """One line a node, with what it needs and what it takes; a sub-pipeline's steps are indented under its name."""
    lines = [f"{graph.pipeline}({', '.join(f'{name}={value!r}' for name, value in graph.params.items())})"]
    wide = max((len(node.name) + 2 * len(node.within) for node in graph.nodes), default=0)
    inside: tuple[str, ...] = ()
    for node in graph.nodes:
        shared = 0
        while shared < min(len(inside), len(node.within)) and inside[shared] == node.within[shared]:
            shared += 1
        for depth, name in enumerate(node.within[shared:], shared):
            lines.append(f"  {'  ' * depth}{name}:")
        inside = node.within
        needs = ", ".join(parent.name for parent in node.parents)
        marks = ", ".join(_marks(node))
        name = "  " * len(inside) + node.name
        lines.append(f"  {name:<{wide}}  {'<- ' + needs if needs else ''}{'  [' + marks + ']' if marks else ''}")
    return "\n".join(line.rstrip() for line in lines)


def _marks(node: Node) -> list[str]:
    """What is special about a node, in words."""
    step: Any = node.step
    marks = [f"only if {'' if wanted else 'not '}{output.node.name}" for output, wanted in node.guards]
    if node.kind == MAP:
        marks.append(f"map over {', '.join(_names(node.arguments['items'])) or 'a list'}")
    elif node.kind == CHOOSE:
        branches = [name for way in ("then", "otherwise") for name in _names([node.arguments[way]])]
        marks.append(f"choose {' or '.join(branches) or 'a value'}")
    elif node.kind == STEP:
        marks += [f"retries {step.retries}"] if step.retries else []
        marks += [f"timeout {step.timeout_s:g} s"] if step.timeout_s else []
        marks += [f"memory {step.resources.memory}"] if step.resources.memory else []
        marks += [f"GPUs {step.resources.gpu:g}"] if step.resources.gpu else []
        marks += [f"environment {step.environment}"] if step.environment else []
        marks += ["not cached"] if not step.cache else []
    return marks


def _names(values: list[Any]) -> list[str]:
    return [value.node.name for value in values if isinstance(value, Output)]


def as_svg(graph: Graph) -> str:
    """The graph from left to right; dashed is what decides whether a step runs, a stack runs once an item."""
    layout = arrange(graph)
    wide = MARGIN * 2 + max(1, layout.columns) * (WIDTH + GAP_X) - GAP_X
    high = MARGIN * 2 + max(1, layout.rows) * (HEIGHT + GAP_Y) - GAP_Y
    arrow = '<marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    arrow += '<path d="M0 0 8 4 0 8z" fill="#6b7c8d"/></marker>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}">'
    )
    title = f"<title>{escape(graph.pipeline)}</title><style>{STYLE}</style><defs>{arrow}</defs>"
    page = '<rect class="page" width="100%" height="100%"/>'
    boxes = [_box(spot) for spot in layout.spots]
    return "\n".join([head, title, page, *_edges(layout), *boxes, "</svg>"])


def _corner(spot: Spot) -> tuple[float, float]:
    return MARGIN + spot.column * (WIDTH + GAP_X), MARGIN + spot.row * (HEIGHT + GAP_Y)


def _edges(layout: Layout) -> Iterator[str]:
    for parent, node, spots in layout.edges:
        wanted = {output.node.name: wanted for output, wanted in node.guards}.get(parent.name)
        kind = "edge" if wanted is None else "edge guard"
        yield f'<path class="{kind}" d="{_path(spots)}"/>'
        if wanted is not None:
            x, y = _corner(spots[-1])
            yield f'<text class="way" x="{x - 18:g}" y="{y + HEIGHT / 2 - 9:g}">{"yes" if wanted else "no"}</text>'


def _path(spots: list[Spot]) -> str:
    """A curve from the right of the first spot to the left of the last, level where it passes others."""
    x, y = _corner(spots[0])
    x, y = x + WIDTH, y + HEIGHT / 2
    parts = [f"M{x:g} {y:g}"]
    for spot in spots[1:]:
        left, top = _corner(spot)
        level, bend = top + HEIGHT / 2, (x + left) / 2
        parts.append(f"C{bend:g} {y:g} {bend:g} {level:g} {left:g} {level:g}")
        if spot.node is None:
            parts.append(f"H{left + WIDTH:g}")
        x, y = left + WIDTH, level
    return "".join(parts)


def _box(spot: Spot) -> str:
    node = spot.node
    assert node is not None, "only nodes have boxes"
    x, y = _corner(spot)
    note = " · ".join([*([f"in {'/'.join(node.within)}"] if node.within else []), *_marks(node)])
    shape = f'class="box {node.kind}" width="{WIDTH}" height="{HEIGHT}" rx="8"'
    stack = f'<rect {shape} x="{x + 5:g}" y="{y + 5:g}"/>' if node.kind == MAP else ""
    middle, centre = x + WIDTH / 2, y + HEIGHT / 2
    texts = f'<text x="{middle:g}" y="{centre - (8 if note else 0):g}">{escape(_cut(node.name, LONGEST))}</text>'
    if note:
        texts += f'<text class="note" x="{middle:g}" y="{centre + 11:g}">{escape(_cut(note, LONGEST + 9))}</text>'
    hint = escape(f"{node.name} {note}".strip())
    return f'<g><title>{hint}</title>{stack}<rect {shape} x="{x:g}" y="{y:g}"/>{texts}</g>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
