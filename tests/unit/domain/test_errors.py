"""Errors that travel over the wire."""

from modelyard.domain.errors import Conflict, from_wire


class Own(Conflict):
    """One that a module keeps for itself, without a code of its own."""


def test_an_answer_is_the_error_that_owns_its_code() -> None:
    body = {
        "error": {"code": "conflict", "message": "It serves already.", "remedy": "Look.", "fields": {"version": 3}}
    }
    found = from_wire(409, body)
    assert type(found) is Conflict and not isinstance(found, Own)
    assert str(found) == "It serves already. Look." and found.fields == {"version": 3}
