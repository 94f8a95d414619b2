"""The exploration as one HTML file that needs nothing else, not even a network."""

from html import escape
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1f2328;
background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}th,td{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #d1d9e0;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600;color:#59636e}h1{margin-bottom:0}h2{margin-top:2rem}.quiet{color:#59636e}svg{display:block}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,.quiet{color:#9198a1}
th,td{border-color:#3d444d}}
"""


def render(found: dict[str, Any]) -> str:
    """The page of {source, total_rows, profile, leaderboard}."""
    profile, board = found["profile"], found["leaderboard"]
    scope = (
        f"{profile['rows']:,} of {found['total_rows']:,} rows" if not found["whole"] else f"{profile['rows']:,} rows"
    )
    counts = f"{len(profile['columns'])} columns, {profile['duplicate_rows']:,} duplicate rows"
    parts = [
        f"<h1>{escape(found['source'])}</h1>",
        f'<p class="quiet">{scope}, {counts}</p>',
        _hints(profile["hints"]),
        _board(board) if board else "",
        _target(profile["target"]) if profile["target"] else "",
        _columns(profile["columns"]),
        _correlations(profile["correlations"]),
    ]
    title = escape(f"{found['source']} explored")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head>{head}{view}</head><body><main>{"".join(parts)}</main></body></html>\n'
    )


def _table(titles: list[str], rows: list[list[str]], numbers: frozenset[int] = frozenset()) -> str:
    def cells(tag: str, row: list[str]) -> str:
        marks = ['class="n"' if index in numbers else "" for index in range(len(row))]
        return "".join(f"<{tag} {mark}>{cell}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', titles)}</tr></thead><tbody>{body}</tbody></table>"


def _hints(hints: list[dict[str, str]]) -> str:
    if not hints:
        return "<h2>What to look at</h2><p>Nothing stands out.</p>"
    rows = [[f"<b>{escape(item['column'])}</b> {escape(item['hint'])}", escape(item["remedy"])] for item in hints]
    return "<h2>What to look at</h2>" + _table(["column", "what to do"], rows)


def _board(board: dict[str, Any]) -> str:
    rows = [
        [
            escape(item["name"]) + (' <span class="quiet">tied with the best</span>' if item["tied"] else ""),
            f"{item['score']:.4f} ± {1.96 * item['standard_error']:.4f}",
            f"{item['seconds']:.1f} s",
        ]
        for item in board["candidates"]
    ]
    note = f"{board['task']}, {board['rows']:,} rows, {len(board['features'])} features, mean and 95% interval"
    if board["suspects"]:
        note += f"; without {', '.join(board['suspects'])}, which would give the answer away"
    left = f" Out of time: {', '.join(board['left_out'])}." if board["left_out"] else ""
    table = _table(["candidate", escape(board["metric"]), "time"], rows, frozenset({1, 2}))
    return f'<h2>Candidates</h2><p class="quiet">{escape(note)}.{escape(left)}</p>{table}'


def _target(target: dict[str, Any]) -> str:
    if not target["shares"]:
        return ""
    rows = [[escape(str(value)), f"{share:.1%}"] for value, share in target["shares"].items()]
    return f"<h2>Balance of {escape(target['name'])}</h2>" + _table(["class", "share"], rows, frozenset({1}))


def _columns(columns: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"<b>{escape(item['name'])}</b><br><span class='quiet'>{item['kind']}, {escape(item['type'])}</span>",
            f"{item['missing']:.1%}",
            f"{item['distinct']:,}",
            _summary(item),
            _histogram(item["histogram"]["counts"]) if "histogram" in item else _bars(item.get("top", [])),
        ]
        for item in columns
    ]
    titles = ["column", "missing", "distinct", "values", "distribution"]
    return "<h2>Columns</h2>" + _table(titles, rows, frozenset({1, 2}))


def _summary(item: dict[str, Any]) -> str:
    if "mean" in item:
        return (
            f"mean {item['mean']:.4g}, sd {item['sd']:.4g}<br>"
            f"<span class='quiet'>{item['min']:.4g} · {item['q25']:.4g} · <b>{item['median']:.4g}</b> · "
            f"{item['q75']:.4g} · {item['max']:.4g}; outliers {item['outliers']:.1%}</span>"
        )
    if "min" in item:
        return f"{escape(item['min'])} to {escape(item['max'])}"
    top = [f"{escape(entry['value'])} {entry['share']:.0%}" for entry in item.get("top", [])[:3]]
    return ", ".join(top)


def _histogram(counts: list[int]) -> str:
    most = max(counts) or 1
    bars = "".join(
        f'<rect x="{index * 8}" y="{40 - 40 * count / most:.1f}" width="7" height="{40 * count / most:.1f}"/>'
        for index, count in enumerate(counts)
    )
    return f'<svg width="{8 * len(counts)}" height="40" fill="#0969da" role="img" aria-label="histogram">{bars}</svg>'


def _bars(top: list[dict[str, Any]]) -> str:
    bars = "".join(
        f'<rect x="0" y="{index * 8}" width="{max(1.0, 160 * entry["share"]):.1f}" height="6"/>'
        for index, entry in enumerate(top[:5])
    )
    return f'<svg width="160" height="40" fill="#0969da" role="img" aria-label="shares">{bars}</svg>' if top else ""


def _correlations(pairs: list[dict[str, Any]]) -> str:
    rows = [[escape(p["first"]), escape(p["second"]), f"{p['correlation']:+.3f}"] for p in pairs]
    if not rows:
        return ""
    return "<h2>Strongest rank correlations</h2>" + _table(["first", "second", "correlation"], rows, frozenset({2}))
