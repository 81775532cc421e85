"""The `cesta` command: releases served and operated, and the verbs that other packages of cesta bring.

A package brings a verb by an entry point of the group `cesta.verbs`: its name is the verb, its object the
function. What is installed and cannot be imported here, as in an image that only serves, says so when called.
"""

import errno
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Final, NoReturn

import structlog
import typer

from operations.commands import ask, keys, publish, release, serve
from operations.errors import CestaError
from operations.server.process import ServerError

VERBS: Final = "cesta.verbs"  # the entry-point group
# Brought by the extra "train"; who serves releases need not have them.
TRAINING: Final = {"faiss", "jinja2", "numba", "onnxruntime", "pandas", "pyarrow", "scipy", "torch"}
MAKING: Final = "Make a release: etl, train, evaluate, export; build runs them all"
SERVING: Final = "Publish, serve and operate releases"
HELP: Final = "What goes into this basket next: receipts in, releases out, served by Triton."


def make_app() -> typer.Typer:
    """The command with all verbs that are installed."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
    app.callback()(_configure_logging)
    for entry_point in entry_points(group=VERBS):
        app.command(entry_point.name, rich_help_panel=MAKING)(_verb(entry_point))
    for verb in (publish.publish, serve.serve, serve.stack, ask.ask):
        app.command(rich_help_panel=SERVING)(verb)
    app.add_typer(release.app, name="release", rich_help_panel=SERVING)
    app.add_typer(keys.app, name="keys", rich_help_panel=SERVING)
    return app


def main() -> None:
    """Entry point: one sentence per error, no traceback for what the user can mend."""
    try:
        make_app()(prog_name="cesta")
    except (CestaError, ServerError) as error:
        _exit(str(error))
    except OSError as error:
        _exit(_disk_trouble(error))
    except ModuleNotFoundError as error:
        _exit(_not_installed(error))


def _exit(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(1)


def _verb(entry_point: EntryPoint) -> Callable[..., None]:
    package = entry_point.module.partition(".")[0]
    if find_spec(package) is not None:
        verb: Callable[..., None] = entry_point.load()
        return verb

    def missing() -> None:
        raise CestaError(
            f'"cesta {entry_point.name}" needs the package {package}, which is not installed here: '
            "this is an installation that serves releases; make them where cesta[train] is installed"
        )

    missing.__doc__ = f"Not installed here: it needs the package {package}."
    return missing


def _not_installed(error: ModuleNotFoundError) -> str:
    """Which extra brings a module that is missing; some other one is our own mistake and is raised."""
    module = (error.name or "").partition(".")[0]
    if module not in TRAINING:
        raise error
    return f"this command needs {module}; run: pip install 'cesta[train]'"


def _disk_trouble(error: OSError) -> str:
    """A file system's refusal in a sentence; numpy reports a full disk without number and name."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, None)
    way_out = "free some space" if full else "choose another folder"
    return f"{error.filename or 'the output'}: {error.strerror or error}; {way_out}"


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(
                [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
                if sys.stderr.isatty()
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is then: tests exchange it
    )


if __name__ == "__main__":
    main()
