"""Every place in the delivery's code that has a side effect, found by reading the source."""

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import modelyard

SOURCE = Path(modelyard.__file__).parent
READ = ["deliver/deployments", "server/api/endpoints.py", "server/api/agents.py", "server/loops.py"]
FILES = {"atomic_write", "write_if_changed", "rename", "unlink", "rmtree"}
STEPS = {"_move", "_abort", "_pause"}
"""Methods of Progress that write one transition each: their callers are the points, what is inside them is not."""


@dataclass(frozen=True)
class Point:
    """One call; `name` is `module:function:effect`, numbered where a function has it more than once."""

    name: str
    file: str
    first: int
    last: int


def _effect(call: ast.Call) -> str | None:
    where = call.func
    name = where.attr if isinstance(where, ast.Attribute) else where.id if isinstance(where, ast.Name) else ""
    if name == "write" and isinstance(where, ast.Attribute):
        return "write" if ast.unparse(where.value).endswith("store") else None
    return name if name in FILES or (name in STEPS and isinstance(where, ast.Attribute)) else None


def _calls(node: ast.AST, inside: tuple[str, ...]) -> list[tuple[tuple[str, ...], str, ast.Call]]:
    found: list[tuple[tuple[str, ...], str, ast.Call]] = []
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if isinstance(child, ast.Call) and (effect := _effect(child)):
            found.append((inside, effect, child))
        found += _calls(child, (*inside, child.name) if named else inside)
    return found


def every() -> dict[str, Point]:
    """{name: point} of all side effects in the order of the source."""
    points: dict[str, Point] = {}
    files = [
        file for part in READ for file in ([SOURCE / part] if part.endswith(".py") else (SOURCE / part).glob("*.py"))
    ]
    for file in sorted(files):
        seen: Counter[str] = Counter()
        calls = sorted(_calls(ast.parse(file.read_text()), ()), key=lambda item: (item[2].lineno, item[2].col_offset))
        for inside, effect, call in calls:
            if inside[0] == "Progress" and inside[-1] in STEPS:
                continue
            plain = f"{file.parent.name}/{file.stem}:{inside[-1]}:{effect}"
            seen[plain] += 1
            name = plain if seen[plain] == 1 else f"{plain}#{seen[plain]}"
            points[name] = Point(name, str(file), call.lineno, call.end_lineno or call.lineno)
    return points
