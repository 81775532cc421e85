"""`cesta demo`: build, serve and ask once, on the Complete Journey."""

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.settings import load_settings
from operations.commands.install import prepare
from operations.commands.options import Out
from operations.outputs import ARTIFACTS
from operations.terminal import PlainConsole


def demo(out: Out = ARTIFACTS) -> None:
    """Build on the Complete Journey, serve, ask and stop."""
    from export_scripts.demo import demo as run

    prepare()
    keep_freed_memory()
    run(load_settings(), out, PlainConsole())
