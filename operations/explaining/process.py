"""Starts a process of the serving environment that explains the answers of one release, and asks it."""

import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from operations.errors import CestaError
from operations.explaining.cut_graph import scored_graph
from operations.releases.models.files import ReleaseFiles
from operations.server.environment import ServingEnvironment, kernels_folder
from operations.server.inherited import inherited_variables
from operations.shipped import ROOT

START_S: Final = 240.0  # compiling the kernels takes half a minute of a core where no server has done so
# The package alone, not its folder: what is installed beside it belongs to another environment.
_MAIN: Final = (
    "import sys, types; package = types.ModuleType('ensemble'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['ensemble'] = package; from ensemble.explanation.process import main; main()"
)
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class QuestionRefused(CestaError):  # noqa: N818 - named for what happened
    """The sampler refuses a question; the text names the value and the limit."""


class ExplainerProcess:
    """A process that explains the answers of one release. One caller at a time.

    Raises CestaError if it does not get ready, or if the release cannot be explained.
    """

    def __init__(
        self, files: ReleaseFiles, environment: ServingEnvironment, live: Path | None = None
    ) -> None:
        """``live`` is the folder of the live tables that the server's samplers follow."""
        self.release = files.release
        graph = scored_graph(files.graph, files.contract)
        self._connection, theirs = multiprocessing.Pipe()
        with theirs:
            self._process = _start(theirs.fileno(), files, environment)
        described = {
            "sampler": str(files.arrays.parent),
            "scores": graph.scores,
            "bias": graph.bias,
            "wide": graph.wide,
            "tables": str(graph.tables),
            "live": str(live.absolute()) if live else None,
        }
        try:
            self._exchange([json.dumps(described).encode(), graph.model], START_S)
        except BaseException:
            self.close()
            raise

    def ask(self, question: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """Return the explanation of a question.

        Raises QuestionRefused if the sampler refuses it, and CestaError if the process fails or takes longer
        than ``limit_s``; it is of no use then.
        """
        told = self._exchange([json.dumps(question).encode()], limit_s)
        if "refused" in told:
            raise QuestionRefused(told["refused"])
        return told

    def close(self) -> None:
        """End the process at once: it holds nothing that could be lost."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def is_alive(self) -> bool:
        """Does the process still run?"""
        return self._process.poll() is None

    def _exchange(self, messages: list[bytes], limit_s: float) -> dict[str, Any]:
        until_s = time.monotonic() + limit_s
        try:
            for message in messages:
                self._connection.send_bytes(message)
            if not self._connection.poll(max(until_s - time.monotonic(), 0)):
                raise CestaError(f"release {self.release}: no explanation within {limit_s:g} s")
            told: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise CestaError(f"release {self.release}: the process that explains it ended") from None
        if "failed" in told:
            raise CestaError(f"release {self.release} cannot be explained: {told['failed']}")
        return told


def _start(descriptor: int, files: ReleaseFiles, environment: ServingEnvironment) -> subprocess.Popen[bytes]:
    variables = inherited_variables(files.repository, is_embedded=True)
    variables |= {
        "NUMBA_CACHE_DIR": str(kernels_folder(Path(tempfile.gettempdir()))),
        **dict.fromkeys(_THREADS, "1"),
    }
    python = str(environment.root / "bin" / "python")
    command = [python, "-I", "-c", _MAIN, str(ROOT / "ensemble"), str(descriptor)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it tells what failed; a pipe that it kept would outlive this process
            env=variables,
            pass_fds=[descriptor],
        )
    except OSError as error:
        raise CestaError(f"{python} cannot be started: {error.strerror}") from None
