"""What a terminal shows of a shop's names and of manifests: themselves."""

import pytest
from rich.table import Table

from operations.terminal import PlainConsole


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Milk [organic]", "Milk [organic]"),
        ("[/SALE]", "[/SALE]"),
        ("Wine :red_heart:", "Wine :red_heart:"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("two\nlines", "two"),
    ],
)
def test_names_are_shown_as_they_are(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", title=name)
    table.add_row(name, style="bold")
    PlainConsole().print(table)
    PlainConsole().print(name, highlight=False)
    told = capsys.readouterr().out
    assert told.count(shown) == 3
    assert "\x1b" not in told
