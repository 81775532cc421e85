"""Spoils published releases whose hashes and signatures stay right, as a faulty build would."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from operations.records.contract import GRAPH, SAMPLER, SCORER
from operations.releases.repository import read_release
from operations.releases.stores.folder import FolderRepository
from tests.building.repositories import another_score, replace_file

Spoil = Callable[[FolderRepository, int], None]


def raises_at_load(repository: FolderRepository, release: int) -> None:
    """The sampler's code runs only in Triton."""
    _replace_sampler(repository, release, 'raise RuntimeError("no such table")\n')


def raises_in_initialize(repository: FolderRepository, release: int) -> None:
    """The code loads, and the model does not."""
    _replace_sampler(
        repository,
        release,
        """
class TritonPythonModel:
    def initialize(self, args):
        raise RuntimeError("no such table")
""",
    )


def exits_at_load(repository: FolderRepository, release: int) -> None:
    """The process of the sampler ends by itself."""
    _replace_sampler(repository, release, "import os\nos._exit(3)\n")


def crashes_at_load(repository: FolderRepository, release: int) -> None:
    """The process of the sampler gets a SIGSEGV, as from a faulty library."""
    _replace_sampler(repository, release, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")


def hangs_at_load(repository: FolderRepository, release: int) -> None:
    """The load never ends."""
    _replace_sampler(repository, release, "import threading\nthreading.Event().wait()\n")


def hangs_at_a_question(repository: FolderRepository, release: int) -> None:
    """It loads, and answers nothing."""
    _replace_sampler(
        repository,
        release,
        """
import threading
class TritonPythonModel:
    def execute(self, requests):
        threading.Event().wait()
""",
    )


def answers_late(repository: FolderRepository, release: int) -> None:
    """Its answers are right, and take longer than shops wait."""
    code = (repository / f"{SAMPLER}/{release}/model.py").read_text()
    imports = "        import triton_python_backend_utils"
    slow = code.replace(imports, f"        import time\n        time.sleep(2.5)\n{imports}")
    assert slow != code
    _replace_sampler(repository, release, slow)


def breaks_the_scorer(repository: FolderRepository, release: int) -> None:
    """ONNX reads this graph and ONNX Runtime refuses it: its first operator does not exist."""
    model = onnx.load(str(repository / f"{SCORER}/{release}/{GRAPH}"))
    model.graph.node[0].op_type = "NoSuchOperator"
    replace_file(repository, f"{SCORER}/{release}/{GRAPH}", model.SerializeToString())


def cuts_an_array(repository: FolderRepository, release: int) -> None:
    """The last bytes of the sampler's first array are missing."""
    name = min(name for name in read_release(repository, release).files if "/arrays/" in name)
    replace_file(repository, name, (repository / name).read_bytes()[:-8])


KINDS: tuple[Spoil, ...] = (
    raises_at_load,
    raises_in_initialize,
    exits_at_load,
    crashes_at_load,
    breaks_the_scorer,
    cuts_an_array,
    another_score,
)


def _replace_sampler(repository: FolderRepository, release: int, code: str) -> None:
    replace_file(repository, f"{SAMPLER}/{release}/model.py", code.encode())
