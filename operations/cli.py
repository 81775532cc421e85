"""The `cesta` command: it serves and operates releases, and it finds the verbs of other packages.

A package adds a verb with an entry point in the group `cesta.verbs`: its name is the verb, its object the
function. A verb that is not installed here, as in an image that only serves, is listed and explains itself.
"""

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from io import TextIOWrapper
from typing import Annotated, Final, NoReturn, TextIO, cast

import structlog
import typer

from operations.commands import ask, events, install, keys, publish, release, serve, stock
from operations.commands.version import print_version
from operations.errors import CestaError, NotActive
from operations.log_stream import LogStream, drop_unwritten
from operations.records.disk import explain
from operations.server.inherited import TELEMETRY_OFF

VERBS: Final = "cesta.verbs"  # the entry-point group
# The order in which a release is made. Installed metadata lists entry points by name.
MAKING: Final = (
    *("etl", "train", "evaluate", "export", "build", "retrain", "score"),
    *("explain", "drift", "paper", "demo"),
)
EXTRAS: Final = {
    "etl": "etl",
    "events": "etl",
    "demo": "train,demo",
}  # verb → what brings all that it needs; else "train"
# Modules of the extra "train". Serving releases does not need them.
TRAINING: Final = {"faiss", "jinja2", "numba", "onnxruntime", "pandas", "pyarrow", "scipy", "torch"}
HELP: Final = "What goes into this basket next: receipts in, releases out, served by Triton."
MAKING_PANEL: Final = "Make a release"
NOT_ACTIVE: Final = 3  # exit code: a new release is published, and the active one is still the old one
INTERRUPTED: Final = 130  # exit code after Ctrl-C, as shells write it
SERVING_PANEL: Final = "Publish, serve and operate releases"


def make_app() -> typer.Typer:
    """Return the command with all its verbs, the missing ones included."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
    app.callback()(_begin)
    installed = {entry_point.name: entry_point for entry_point in entry_points(group=VERBS)}
    for name in (*MAKING, *sorted(installed.keys() - set(MAKING))):
        _add_verb(app, name, installed.get(name))
    for verb in (publish.publish, install.install, serve.serve, serve.stack, ask.ask):
        app.command(rich_help_panel=SERVING_PANEL)(verb)
    app.add_typer(release.app, name="release", rich_help_panel=SERVING_PANEL)
    app.add_typer(keys.app, name="keys", rich_help_panel=SERVING_PANEL)
    app.add_typer(events.app, name="events", rich_help_panel=SERVING_PANEL)
    app.add_typer(stock.app, name="stock", rich_help_panel=SERVING_PANEL)
    return app


def main() -> None:
    """Run the command. Errors that the user can fix end it with a sentence on stderr, without a traceback."""
    os.environ.setdefault(TELEMETRY_OFF, "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # of a locale that has no "…", nor the letters of a category
            stream.reconfigure(errors="backslashreplace")
    try:
        make_app()(prog_name="cesta")
    except NotActive as error:
        _exit(str(error), NOT_ACTIVE)
    except CestaError as error:
        _exit(str(error))
    except OSError as error:
        _exit(explain(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        _exit(_explain_missing_module(error))
    finally:
        drop_unwritten(sys.stderr)


def _exit(sentence: str, code: int = 1) -> NoReturn:
    print(sentence, file=LogStream())
    sys.exit(code)


def _add_verb(app: typer.Typer, name: str, entry_point: EntryPoint | None) -> None:
    """Add the verb of an entry point; where it cannot be had, add one that says what is missing."""
    if entry_point and _is_installed(entry_point.module):
        app.command(name, rich_help_panel=MAKING_PANEL)(entry_point.load())
        return
    reason = f"there is no module {entry_point.module}" if entry_point else "no package registers it"
    app.command(
        name,
        rich_help_panel=MAKING_PANEL,
        help=f"Not installed here: needs cesta[{_extra(name)}].",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},  # those of the real verb
    )(_make_refusal(name, reason))


def _make_refusal(verb: str, reason: str) -> Callable[[], None]:
    def refuse() -> None:
        raise CestaError(
            f'"cesta {verb}" is not installed here: {reason}; run it where cesta[{_extra(verb)}] is '
            'installed (in a checkout: "make install")'
        )

    return refuse


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that holds the module
        return False


def _explain_missing_module(error: ModuleNotFoundError) -> str:
    """Name the extra that brings a missing module. Any other missing module is our mistake and is raised."""
    module = (error.name or "").partition(".")[0]
    if module not in TRAINING:
        raise error
    verb = next(iter(sys.argv[1:]), "")
    return f"this command needs {module}; run: pip install 'cesta[{_extra(verb)}]'"


def _extra(verb: str) -> str:
    return EXTRAS.get(verb, "train")


def _begin(
    version: Annotated[  # its callback prints and ends
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print what runs here."),
    ] = False,
) -> None:
    _configure_logging()


def _configure_logging() -> None:
    """Log to stderr: coloured lines for a terminal, JSON for a program."""
    renderers = (
        [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        logger_factory=lambda *_: structlog.PrintLogger(cast(TextIO, LogStream())),
    )


if __name__ == "__main__":
    main()
