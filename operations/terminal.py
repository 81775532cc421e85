"""Text on a terminal as it is: no name of a product and no manifest steers the terminal or its styles."""

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

WIDTH: Final = 110


class PlainConsole(Console):
    """A console that takes no text for markup, so that the product "Milk [organic]" keeps its name."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> "Text":
        """Return the text in rich's form, also of the cells of tables."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def printable(text: str) -> str:
    """Write letters that a terminal does not print as escapes: nothing in a file can steer the terminal."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
