"""Progress bars on stderr, so that stdout holds results only."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """One bar for one loop: ``with Progress("train", total=900) as bar: bar.advance(loss=0.1)``."""

    def __init__(self, what: str, total: int, shown: bool = True):
        self._bars = Bars(
            TextColumn(f"{what:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bars.add_task(what, total=total, note="")

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def advance(self, steps: int = 1, **values: float) -> None:
        """Move the bar and show values beside it, for example the loss."""
        note = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self._bars.update(self._task, advance=steps, note=note)
