"""Errors of the supervisor as problem details."""

import json

from operations.supervisor.problems import problem_response


def test_a_sentence_may_quote_half_a_surrogate_pair() -> None:
    """JSON can hold one; UTF-8 cannot."""
    response = problem_response("id", 400, "there is no field \ud800", code="unknown_field")
    assert json.loads(bytes(response.body))["detail"] == "there is no field \\ud800"
