"""A model card as one HTML file that needs nothing else: for a wiki, a review, an archive."""

from typing import Any

from markupsafe import Markup

from modelyard.kit.clock import iso
from modelyard.registry.lineage import ORDER

WIDTH, HEIGHT, GAP = 190, 46, 26
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ card.model }} v{{ card.version }}: model card</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } th, td { padding: .25rem .8rem .25rem 0;
text-align: left; border-bottom: 1px solid #d8dee4; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .9em; } h2 { margin-top: 2rem; } .no { color: #a40e26; } .yes { color: #116329; }
svg text { font: 12px system-ui, sans-serif; } figure { margin: 0; overflow-x: auto; }
</style></head><body>
<h1>{{ card.model }} v{{ card.version }}</h1>
<p>{{ card.description or "No description yet: say what it predicts, for whom, and where it must not be used." }}</p>
<table>
<tr><th>made by</th><td>{{ card.made.by }}, {{ time(card.made.at) }}</td></tr>
<tr><th>digest</th><td><code>{{ card.digest }}</code></td></tr>
<tr><th>size</th><td>{{ "{:,}".format(card.size_bytes) }} bytes</td></tr>
{% for name, value in (card.made.params or {}).items() %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
</table>
<h2>How good it is</h2>
{% if card.evaluation.metrics %}
<p>Measured on {{ card.evaluation.rows or "an unknown number of" }} rows
(<code>{{ (card.evaluation.dataset or "unknown data")[:16] }}</code>).</p>
<table><tr><th>metric</th><th>value</th><th>standard error</th></tr>
{% for name, value in card.evaluation.metrics.items() %}<tr><td>{{ name }}</td><td class="n">{{ number(value) }}</td>
<td class="n">{{ number((card.evaluation.standard_errors or {}).get(name)) }}</td></tr>{% endfor %}</table>
{% else %}<p>No evaluation is stored.</p>{% endif %}
{% if card.slices %}<h2>On whom it is worse</h2>
<table><tr><th>group</th><th>rows</th>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for item in card.slices %}<tr><td>{{ item.by }} = {{ item.value }}</td><td class="n">{{ item.rows }}</td>
{% for name in columns %}<td class="n">{{ number(item.metrics.get(name)) }}</td>{% endfor %}</tr>{% endfor %}</table>
{% endif %}
<h2>Gates</h2>
{% if card.gates %}<p class="{{ "yes" if card.gates.passed else "no" }}">
{{ "passed" if card.gates.passed else "failed" }}</p>
<ul>{% for result in card.gates.results %}<li>{{ result.why }}</li>{% endfor %}</ul>
{% else %}<p>No gate was evaluated.</p>{% endif %}
<h2>Decisions</h2>
{% if approvals %}<ul>{% for item in approvals %}<li>{{ item.environment }}: {{ item.state }}
{% for made in item.decisions %}; {{ made.verdict }} by {{ made.principal }}: {{ made.comment }}{% endfor %}</li>
{% endfor %}</ul>{% else %}<p>Nobody was asked yet.</p>{% endif %}
<h2>Lineage</h2>
<figure>{{ drawing }}</figure>
<ul>{% for item in edges %}<li>{{ item.from }} {{ item.how }} {{ item.to }}</li>{% endfor %}</ul>
</body></html>
"""
GRAPH = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ name }}: lineage</title>
<style>body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1b1f24; }
svg text { font: 12px system-ui, sans-serif; } figure { margin: 0; overflow-x: auto; }</style></head><body>
<h1>{{ name }}: lineage</h1>
<figure>{{ drawing }}</figure>
<ul>{% for item in edges %}<li>{{ item.from }} {{ item.how }} {{ item.to }}</li>{% endfor %}</ul>
</body></html>
"""
BOXES = """<svg role="img" aria-label="lineage graph" width="{{ width }}" height="{{ height }}">
{% for line in lines %}<path d="{{ line }}" fill="none" stroke="#8c959f"/>{% endfor %}
{% for box in boxes %}<g><title>{{ box.id }}</title>
<rect x="{{ box.x }}" y="{{ box.y }}" width="160" height="46" rx="4" fill="none" stroke="#8c959f"/>
<text x="{{ box.x + 8 }}" y="{{ box.y + 18 }}" fill="currentColor" font-size="11">{{ box.kind }}</text>
<text x="{{ box.x + 8 }}" y="{{ box.y + 36 }}" fill="currentColor" font-size="13">{{ box.label[:22] }}</text></g>
{% endfor %}</svg>"""


def page(card: dict[str, Any], graph: dict[str, Any]) -> str:
    """The whole file; every text of a user's is escaped."""
    from jinja2 import Environment  # late: the server starts without it

    environment = Environment(autoescape=True)
    metrics = {name for item in card["slices"] for name in item["metrics"]}
    return environment.from_string(PAGE).render(
        card=card,
        approvals=card["approvals"],
        columns=sorted(metrics),
        edges=graph["edges"],
        drawing=drawing(graph),
        number=_number,
        time=iso,
    )


def lineage_page(name: str, graph: dict[str, Any]) -> str:
    """The lineage graph as one HTML file."""
    from jinja2 import Environment  # late: see page

    template = Environment(autoescape=True).from_string(GRAPH)
    return template.render(name=name, drawing=drawing(graph), edges=graph["edges"])


def drawing(graph: dict[str, Any]) -> Markup:
    """The lineage graph as SVG."""
    from jinja2 import Environment  # late: see page

    return Markup(Environment(autoescape=True).from_string(BOXES).render(**_placed(graph)))


def _placed(graph: dict[str, Any]) -> dict[str, Any]:
    """Boxes in columns by kind, and curves from cause to result.

    What nothing led to stands in a row of its own below, so that no curve runs through another box.
    """
    kinds = [kind for kind in ORDER if any(node["kind"] == kind for node in graph["nodes"])]
    results = {edge["to"] for edge in graph["edges"]}
    rows: dict[str, int] = {}
    boxes: dict[str, dict[str, Any]] = {}
    for node in sorted(graph["nodes"], key=lambda node: node["id"] not in results):
        first = node["id"] in results
        row = rows.get(node["kind"], 0) if first else max(rows.values(), default=0)
        rows[node["kind"]] = row + 1
        boxes[node["id"]] = {**node, "x": 4 + kinds.index(node["kind"]) * WIDTH, "y": 4 + row * (HEIGHT + GAP)}
    lines = [_curve(boxes[edge["from"]], boxes[edge["to"]]) for edge in graph["edges"]]
    height = max(rows.values(), default=1) * (HEIGHT + GAP)
    return {"boxes": list(boxes.values()), "lines": lines, "width": len(kinds) * WIDTH, "height": height}


def _curve(source: dict[str, Any], target: dict[str, Any]) -> str:
    """Along the source's row, then to the target; straight up or down inside a column."""
    if source["x"] == target["x"]:
        return f"M {source['x'] + 80} {source['y']} L {target['x'] + 80} {target['y'] + HEIGHT}"
    x, y, to_x, to_y = source["x"] + 160, source["y"] + 23, target["x"], target["y"] + 23
    return f"M {x} {y} L {to_x - 24} {y} C {to_x - 12} {y}, {to_x - 12} {to_y}, {to_x} {to_y}"


def _number(value: Any) -> str:
    return "-" if value is None else (f"{value:.4g}" if isinstance(value, int | float) else str(value))
