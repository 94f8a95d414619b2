"""A pipeline's graph as text and as SVG."""

from html import escape
from typing import Any

from modelyard.build.pipelines.nodes import REGISTER, STEP, Graph, Node

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 170, 44, 60, 24, 20
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b2733;text-anchor:middle;dominant-baseline:middle}"
    "rect{fill:#eef4fb;stroke:#3a6ea5;rx:8}rect.register{fill:#e9f6ec;stroke:#2f7d4f}"
    "rect.map,rect.choose,rect.gather{fill:#fdf5e2;stroke:#a87a1c}path{fill:none;stroke:#6b7c8d;marker-end:url(#a)}"
)


def as_text(graph: Graph) -> str:
    """One line a node, with what it needs and what it takes."""
    wide = max((len(node.name) for node in graph.nodes), default=0)
    lines = [f"{graph.pipeline}({', '.join(f'{name}={value!r}' for name, value in graph.params.items())})"]
    for node in graph.nodes:
        needs = ", ".join(parent.name for parent in node.parents)
        extra = _marks(node)
        lines.append(f"  {node.name:<{wide}}  {'<- ' + needs if needs else ''}{'  [' + extra + ']' if extra else ''}")
    return "\n".join(line.rstrip() for line in lines)


def _marks(node: Node) -> str:
    marks = [] if node.kind in (STEP, REGISTER) else [node.kind]
    step: Any = node.step
    if node.kind == STEP:
        marks += [f"retries {step.retries}"] if step.retries else []
        marks += [f"timeout {step.timeout_s:g} s"] if step.timeout_s else []
        marks += [f"memory {step.resources.memory}"] if step.resources.memory else []
        marks += ["not cached"] if not step.cache else []
    return ", ".join([*marks, *(["only if " + output.node.name for output, _ in node.guards])])


def as_svg(graph: Graph) -> str:
    """The graph from left to right, each node in the column after its last parent."""
    column: dict[str, int] = {}
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for node in graph.nodes:
        column[node.name] = 1 + max((column[parent.name] for parent in node.parents), default=-1)
        row = rows.get(column[node.name], 0)
        rows[column[node.name]] = row + 1
        place[node.name] = (
            MARGIN + column[node.name] * (WIDTH + GAP_X),
            MARGIN + row * (HEIGHT + GAP_Y),
        )
    wide = MARGIN * 2 + (max(column.values(), default=0) + 1) * (WIDTH + GAP_X) - GAP_X
    high = MARGIN * 2 + max(rows.values(), default=1) * (HEIGHT + GAP_Y) - GAP_Y
    edges = [_edge(place[parent.name], place[node.name]) for node in graph.nodes for parent in node.parents]
    boxes = [_box(node, *place[node.name]) for node in graph.nodes]
    arrow = '<marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    arrow += '<path d="M0 0 8 4 0 8z" style="fill:#6b7c8d;marker-end:none"/></marker>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">'
    title = f"<title>{escape(graph.pipeline)}</title><style>{STYLE}</style><defs>{arrow}</defs>"
    return "\n".join([head, title, *edges, *boxes, "</svg>"])


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y, to_x, to_y = start[0] + WIDTH, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"/>'


def _box(node: Node, x: int, y: int) -> str:
    text = node.name if len(node.name) <= 22 else node.name[:21] + "…"
    hint = escape(f"{node.name} {_marks(node)}".strip())
    box = f'<rect class="{node.kind}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"/>'
    return f'<g><title>{hint}</title>{box}<text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2}">{escape(text)}</text></g>'
