"""The filter language: what it takes, where it says no, and that no text breaks or slows it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.errors import Invalid
from modelyard.store.filters import Condition, Order, Position, page_token, parse, parse_order, read_token


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("metrics.auc > 0.7", [("metric", "auc", ">", 0.7)]),
        ("a = 'x' AND b = 'y'", [("attribute", "a", "=", "x"), ("attribute", "b", "=", "y")]),
        ('params."deep key" = "it\'s"', [("param", "deep key", "=", "it's")]),
        ("tags.`a.b` ilike 'x%'", [("tag", "a.b", "ILIKE", "x%")]),
        ("run_id IN ('a', 'b',)", [("attribute", "run_id", "among", ["a", "b"])]),
        ("run_id not in ('a')", [("attribute", "run_id", "outside", ["a"])]),
        ("tags.x IS NOT NULL and metric.y != -1e-3", [("tag", "x", "present", None), ("metric", "y", "!=", -0.001)]),
        ("params.andy = 'and'", [("param", "andy", "=", "and")]),
        ("  ", []),
    ],
)
def test_what_it_takes(text: str, found: list[tuple[object, ...]]) -> None:
    assert [(c.entity, c.key, c.operator, c.value) for c in parse(text)] == found


@pytest.mark.parametrize(
    "text", ["metrics.a >> 1", "a", "a = ", "a = 'x' OR b = 'y'", "a IN ()", "(a = 'x')", "x.y.= 1"]
)
def test_where_it_says_no(text: str) -> None:
    with pytest.raises(Invalid, match="Invalid filter"):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        assert all(isinstance(condition, Condition) for condition in parse(text))
    except Invalid:
        return


@pytest.mark.parametrize("piece", ["'", '"', "''", "(", "a.", "AND ", "\\'"])
def test_long_nonsense_is_refused_in_no_time(piece: str) -> None:
    began = time.process_time()
    with pytest.raises(Invalid):
        parse("params.a = '" + piece * 4000)
    assert time.process_time() - began < 2


def test_orders() -> None:
    assert parse_order(["metrics.`a b` DESC", "start_time"]) == [
        Order("metric", "a b", True),
        Order("attribute", "start_time", False),
    ]
    for wrong in (["a SIDEWAYS"], ["a", "a DESC"], [""], ["a b c"]):
        with pytest.raises(Invalid, match="order_by"):
            parse_order(wrong)


@given(st.integers(0, 2**52), st.integers(0, 2**40))
def test_a_page_token_says_where_it_was(offset: int, until: int) -> None:
    assert read_token(page_token(Position(offset, until))) == Position(offset, until)


@given(st.text(max_size=40))
def test_other_tokens_are_refused(text: str) -> None:
    try:
        read_token(text)
    except Invalid as error:
        assert "page token" in str(error)
