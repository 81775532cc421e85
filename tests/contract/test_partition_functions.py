"""Every function that an engine computes has a test with several processes, without Ray."""

import ast

from tests import ROOT

TESTS = {
    "make_part": "unit/receipts/test_part_workers.py",
    "count_part": "unit/snapshots/test_partitions.py",
    "make_histories": "unit/snapshots/test_partitions.py",
    "_rank": "model/test_evaluate.py",
    "place_by_prior": "model/test_evaluate.py",
    "train_rank": "unit/snapshots/test_tower_ranks.py",  # a tower of the same quality, not the same bytes
    "score_partition": "unit/scoring/test_score.py",
    "compare_partition": "unit/scoring/test_score.py",
}


def computed_by_engines() -> set[str]:
    """The first arguments of map and together, of calls with a function, partitions and what they share."""
    return {
        ast.unparse(call.args[0])
        for path in (ROOT / "export_scripts").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("map", "together")
        and len(call.args) == 3
    } - {"function"}  # in an engine


def test_every_partition_function_is_tested_with_several_processes() -> None:
    """Write such a test for a new function, then list both here."""
    assert computed_by_engines() == TESTS.keys()
    for path in TESTS.values():
        text = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert "workers" in text or "open_local" in text, path
