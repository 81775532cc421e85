"""The states in which the flows end, read from their source: Prefect is not installed here."""

import re

from tests import ROOT

FLOWS = ROOT / "export_scripts" / "flows"


def test_no_flow_ends_in_a_state_that_is_taken_for_silence() -> None:
    """register.py has silent runs run again. An ended run is silent, too, so each end must be listed."""
    sources = [(FLOWS / f"{name}.py").read_text() for name in ("drift", "retrain", "score")]
    ends = {end for source in sources for end in re.findall(r'(?:Completed|Failed)\(name="(\w+)"', source)}
    (listed,) = re.findall(r"^STATES: Final = \(([^)]*)\)", (FLOWS / "register.py").read_text(), re.MULTILINE)
    assert {"Drifted", "Refused"} <= ends <= set(re.findall(r'"(\w+)"', listed))
