"""`cesta demo`: the whole line once, on the shipped data."""

from rich.console import Console

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.settings import load_settings
from operations.commands.options import Out
from operations.outputs import ARTIFACTS


def demo(out: Out = ARTIFACTS) -> None:
    """Build on the Complete Journey, serve it, ask for a real basket, stop."""
    from export_scripts.demo import demo as run

    keep_freed_memory()
    run(load_settings(), out, Console(width=110))
