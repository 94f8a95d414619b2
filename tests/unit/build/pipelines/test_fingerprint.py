"""A step runs again when anything that it depends on changed, and only then."""

import pytest

from tests.unit.build.pipelines.conftest import Project


def again(project: Project, step: str = "work") -> str:
    """The step's state in a fresh process."""
    answer = project.run()
    assert "states" in answer, answer
    return answer["states"][step]


PLAIN = """
{top}

@yard.step
def work() -> int:
    return {body}

@yard.pipeline
def main():
    work()
"""


def change(project: Project, before: tuple[str, str], after: tuple[str, str]) -> tuple[str, str, str]:
    """States of three runs: of the code before, of the same again, of the code after. Each is (top, body)."""
    project.write(PLAIN.format(top=before[0], body=before[1]))
    first, second = again(project), again(project)
    project.write(PLAIN.format(top=after[0], body=after[1]))
    return first, second, again(project)


RERUN = ("finished", "cached", "finished")
KEPT = ("finished", "cached", "cached")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(("", "1"), ("", "2"), id="own code"),
        pytest.param(("def f(): return 1", "f()"), ("def f(): return 2", "f()"), id="helper"),
        pytest.param(
            ("def g(): return 1\ndef f(): return g()", "f()"),
            ("def g(): return 2\ndef f(): return g()", "f()"),
            id="helper's helper",
        ),
        pytest.param(("N = 1", "N"), ("N = 2", "N"), id="constant"),
        pytest.param(("N = [1, {'a': 1}]", "len(N)"), ("N = [1, {'a': 2}]", "len(N)"), id="nested constant"),
        pytest.param(
            ("N = 1\ndef f(): return N", "f()"), ("N = 2\ndef f(): return N", "f()"), id="helper's constant"
        ),
        pytest.param(
            ("class A:\n    def f(self): return 1", "A().f()"),
            ("class A:\n    def f(self): return 2", "A().f()"),
            id="class",
        ),
        pytest.param(
            ("N = 1\nclass A:\n    def f(self): return N", "A().f()"),
            ("N = 2\nclass A:\n    def f(self): return N", "A().f()"),
            id="constant in a method",
        ),
        pytest.param(
            ("def make(n):\n    def f(): return n\n    return f\nf = make(1)", "f()"),
            ("def make(n):\n    def f(): return n\n    return f\nf = make(2)", "f()"),
            id="closure",
        ),
        pytest.param(
            ("N = 1", "sum(N for _ in range(2))"), ("N = 2", "sum(N for _ in range(2))"), id="comprehension"
        ),
        pytest.param(("f = lambda: 1", "f()"), ("f = lambda: 2", "f()"), id="lambda"),
        pytest.param(
            ("def rec(n): return 1 if n == 0 else rec(n - 1)", "rec(3)"),
            ("def rec(n): return 2 if n == 0 else rec(n - 1)", "rec(3)"),
            id="recursion",
        ),
    ],
)
def test_what_a_step_reaches_is_in_its_key(project: Project, before: tuple[str, str], after: tuple[str, str]):
    assert change(project, before, after) == RERUN


CACHED_HELPER = "import functools\n@functools.lru_cache\ndef f(): return {}"
PARTIAL = "import functools\ndef g(n): return n + {}\nf = functools.partial(g, 1)"
DECORATED = """
import functools
def plus(function):
    @functools.wraps(function)
    def wrapper(): return function() + {}
    return wrapper
def g(): return {}
@plus
def f(): return g()
"""
DEFAULT = "N = {}\ndef f(n=N): return n"
BASE = "class A:\n    def f(self): return {}\nclass B(A): pass"
PROPERTY = "N = {}\nclass A:\n    @property\n    def f(self): return N"
TABLE = "def g(): return {}\nTABLE = {{'g': g}}"
TWO_CLOSURES = "def make(n):\n    def f(): return n\n    return f\na = make(1)\nb = make({})"
PATH = "from pathlib import Path\nP = Path('{}')"
ESTIMATOR = "class C:\n    def __init__(self, n): self.n = n\nM = C({})"


@pytest.mark.parametrize(
    ("before", "after", "body"),
    [
        pytest.param(CACHED_HELPER.format(1), CACHED_HELPER.format(2), "f()", id="lru_cache"),
        pytest.param(PARTIAL.format(1), PARTIAL.format(2), "f()", id="partial"),
        pytest.param(DECORATED.format(1, 1), DECORATED.format(2, 1), "f()", id="decorator"),
        pytest.param(DECORATED.format(1, 1), DECORATED.format(1, 2), "f()", id="helper of a decorated helper"),
        pytest.param(DEFAULT.format(1), DEFAULT.format(2), "f()", id="default of a helper"),
        pytest.param(BASE.format(1), BASE.format(2), "B().f()", id="base class"),
        pytest.param(PROPERTY.format(1), PROPERTY.format(2), "A().f", id="constant in a property"),
        pytest.param(TABLE.format(1), TABLE.format(2), "TABLE['g']()", id="function in a dict"),
        pytest.param(
            TWO_CLOSURES.format(1), TWO_CLOSURES.format(2), "a() + b()", id="second closure of one function"
        ),
        pytest.param(PATH.format("a"), PATH.format("b"), "len(str(P))", id="path constant"),
        pytest.param(ESTIMATOR.format(1), ESTIMATOR.format(2), "M.n", id="instance"),
    ],
)
def test_more_that_a_step_reaches_is_in_its_key(project: Project, before: str, after: str, body: str):
    assert change(project, (before, body), (after, body)) == RERUN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(("N = 1", "1"), ("N = 2", "1"), id="constant not used"),
        pytest.param(("def f(): return 1", "1"), ("def f(): return 2", "1"), id="function not used"),
        pytest.param(("", "1"), ("", "1  # why"), id="comment"),
        pytest.param(
            ('def f():\n    "a"\n    return 1', "f()"), ('def f():\n    "b"\n    return 1', "f()"), id="docstring"
        ),
        pytest.param(("S = {'a', 'b', 'c'}", "len(S)"), ("S = {'c', 'b', 'a'}", "len(S)"), id="order of a set"),
    ],
)
def test_what_does_not_matter_keeps_the_result(project: Project, before: tuple[str, str], after: tuple[str, str]):
    assert change(project, before, after) == KEPT


FROM_OTHER = "from other import f"


def test_a_helper_in_another_module(project: Project):
    project.write(PLAIN.format(top=FROM_OTHER, body="f()"))
    project.write("N = 1\ndef f(): return N", "other.py")
    assert (again(project), again(project)) == ("finished", "cached")
    project.write("N = 2\ndef f(): return N", "other.py")
    assert again(project) == "finished"


def test_a_module_used_by_its_name(project: Project):
    project.write(PLAIN.format(top="import other", body="other.f()"))
    project.write("def f(): return 1", "other.py")
    assert (again(project), again(project)) == ("finished", "cached")
    project.write("def f(): return 2", "other.py")
    assert again(project) == "finished"


def test_a_module_behind_a_module(project: Project):
    project.write(PLAIN.format(top="import other", body="other.f()"))
    project.write("import deeper\ndef f(): return deeper.g()", "other.py")
    project.write("def g(): return 1", "deeper.py")
    assert (again(project), again(project)) == ("finished", "cached")
    project.write("def g(): return 2", "deeper.py")
    assert again(project) == "finished"


def test_a_project_module_imported_in_the_body(project: Project):
    project.write(
        PLAIN.format(top="", body="__import__('other') and f()").replace(
            "    return", "    from other import f\n    return"
        )
    )
    project.write("def f(): return 1", "other.py")
    assert (again(project), again(project)) == ("finished", "cached")
    project.write("def f(): return 2", "other.py")
    assert again(project) == "finished"


def test_a_late_import_does_not_change_the_key(project: Project):
    project.write("""
        @yard.step
        def first() -> int:
            import importlib
            return len(importlib.import_module("yaml").__name__)

        @yard.step
        def second(size: int) -> int:
            import yaml
            return size + len(yaml.__name__)

        @yard.pipeline
        def main():
            second(first())
    """)
    assert project.run()["states"] == {"first": "finished", "second": "finished"}
    assert project.run()["states"] == {"first": "cached", "second": "cached"}


def test_two_lambdas(project: Project):
    top = "a = lambda: 1\nb = lambda: {}"
    assert change(project, (top.format(1), "a() + b()"), (top.format(2), "a() + b()")) == RERUN
