"""What a replay keeps, and what its tables show."""

from pathlib import Path

import numpy as np

from export_scripts.quality.metrics import MISSED, gains
from export_scripts.replay.document import fill, plot, sections
from export_scripts.replay.kept import KeptRelease, day_name


def test_ranks_come_back_as_they_were(tmp_path: Path) -> None:
    kept = KeptRelease(tmp_path / "made-007")
    assert not kept.has(day_name(7))
    assert kept.about is None
    kept.keep(day_name(7), np.array([0.0, 3.0, MISSED]))
    kept.tell({"cpu_s": 1.5})
    assert kept.has(day_name(7))
    assert gains(kept.read(day_name(7))).round(3).tolist() == [[1, 1, 1], [1, 0.431, 0.25], [0, 0, 0]]
    assert kept.about == {"cpu_s": 1.5}


def week(value: float) -> dict[str, object]:
    summary = {"hr_at_10": 2 * value, "ndcg_at_10": value, "interval": {"ndcg_at_10": [0.1, 0.2]}, "n": 70}
    return {
        "first_day": "2017-09-11",
        "unknown_items": 0.015,
        **dict.fromkeys(("all", "repeat", "explore"), summary),
    }


FIGURES = {
    "start": "cold",
    "weeks": 2,
    "chosen_weeks": 1,
    "schedules": {
        "weekly": {
            "trainings": 2,
            "cpu_s": 300.0,
            "weeks": {1: week(0.15), 2: week(0.14)},
            "chosen": week(0.15) | {"weeks": 1},
        },
        "frozen": {
            "trainings": 1,
            "cpu_s": 150.0,
            "weeks": {"1": week(0.15)},
            "chosen": week(0.15)
            | {"weeks": 1, "difference": {"ndcg_at_10": -0.01}, "interval": {"ndcg_at_10": [-0.02, -0.005]}},
        },
    },
    "gate": {"equal": {"refused": 0.02, "refused_before": 0.3, "judged": 50}},
}


def test_tables_show_the_figures() -> None:
    shown = sections(FIGURES)
    assert "| frozen | 1 | 0.3000 | 0.1500 | -0.0100 (-0.0200 to -0.0050) |" in shown["schedules"]
    assert shown["held_out"] == "Not measured yet."
    assert set(sections(FIGURES | {"start": "warm"})) == {"warm"}
    assert "| 2017-09-11 | 0.1400 (0.100-0.200) | - | 1.5% | - |" in shown["weeks"]
    assert "| equal | 2.0% | 30.0% | 50 |" in shown["gate"]
    assert plot(FIGURES).count("<polyline") == 2


def test_a_section_is_replaced_between_its_markers() -> None:
    text = "a\n<!-- replay:gate -->\nold\n<!-- end -->\nb\n<!-- bench:x -->\nkept\n<!-- end -->\n"
    filled = fill(text, "gate", r"new \1")
    assert filled == text.replace("old", r"new \1")
    assert fill(text, "weeks", "new") == text
