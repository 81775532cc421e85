"""`cesta install`: makes the serving environment of an installed cesta, as the first `cesta serve` does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from operations import preflight
from operations.errors import CestaError, ServerError
from operations.server import cached_environment, compiled_backend
from operations.server.environment import find_serving_environment
from operations.shipped import is_checkout


def install(
    python: Annotated[
        str, typer.Option(help="The Python 3.11 or 3.12 for Triton's models; by default one that is found.")
    ] = "",
) -> None:
    """Make the environment in which Triton runs.

    It lies in the user's cache folder. "cesta serve" and "cesta demo" make it
    when they need it.
    """
    if is_checkout():
        raise CestaError('this cesta runs in a checkout, whose environments "make install" makes')
    made = None if python else cached_environment.find_made(_version(sys.executable))
    if made and compiled_backend.find_library(find_serving_environment(made)):
        print(made)
    else:
        print(_make(python))


def prepare(check: Callable[[], object] = lambda: None) -> None:
    """Make the serving environment if this cesta looks for it in the cache folder, where it is not yet.

    `check` raises before that what would be raised after it.
    """
    if is_checkout() or os.environ.get("CESTA_SERVING_ENV"):
        return
    if not cached_environment.find_made(_version(sys.executable)):
        check()
        _make("")


def _make(named: str) -> Path:
    python = _choose_python(named)
    version = _version(python)
    console = Console(stderr=True)
    where = cached_environment.place(version)
    console.print(f"making the serving environment in {where}", soft_wrap=True, highlight=False, markup=False)
    columns = (
        TextColumn("install"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        # Beside the packages: the virtual environment, their unpacking, the compiler.
        task = bar.add_task("", total=cached_environment.package_count() + 3)

        def show(step: str) -> None:
            bar.update(task, advance=1, description=step)

        made = cached_environment.make(python, version, show)
        show("compiling the ONNX backend")
        try:
            compiled_backend.compile_library(find_serving_environment(made))
        except ServerError as error:
            bar.console.print(
                f"{error}\nWithout it the Python backend serves the scorer: the same answers, slower."
            )
        bar.update(task, completed=bar.tasks[0].total, description="done")
    return made


def _choose_python(named: str) -> str:
    """Return the Python for Triton's models. Raises CestaError with preflight's sentence if there is none."""
    try:
        preflight.check_machine()
        if named:
            path, reason = preflight.ask_other(named)
            return path or sys.exit(f"--python {named}: {reason}")
        if sys.version_info[:2] in preflight.SERVING:
            preflight.check_modules()
        return preflight.choose_serving_python("")
    except SystemExit as stop:
        raise CestaError(str(stop.code).replace("then make again", 'then "cesta install" again')) from None


def _version(python: str) -> str:
    """Return the version of an interpreter, such as `"3.11"`."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([python, "-I", "-c", code], text=True).strip()
