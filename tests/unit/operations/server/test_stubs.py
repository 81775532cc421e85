"""Whether a model's process has ended, as the kernel shows it."""

from pathlib import Path

import pytest

from operations.server.stubs import ended_stubs


@pytest.mark.parametrize(
    ("stat", "ended"),
    [
        ("7 (triton_python_b) Z 5", True),
        ("7 (triton_python_b) S 5", False),
        ("7 (sh) Z 5", False),  # Triton starts stubs by a shell
    ],
)
def test_a_stub_that_nobody_has_awaited_has_ended(tmp_path: Path, stat: str, ended: bool) -> None:
    (tmp_path / "5" / "task" / "6").mkdir(parents=True)
    (tmp_path / "5" / "task" / "6" / "children").write_text("7 8 ")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"{stat} 0\n")
    assert ended_stubs(5, tmp_path) == ({7} if ended else set())
