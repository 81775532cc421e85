"""Spoils published releases whose hashes and signatures stay right, as a faulty build would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from operations.records import file_record, manifest
from operations.records.contract import ENSEMBLE, GRAPH, SAMPLER, SCORER
from operations.releases.repository import manifest_place, read_release
from operations.releases.signatures.signature import sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository

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


def hangs_in_initialize(repository: FolderRepository, release: int, began: Path, goes_on: Path) -> None:
    """``initialize`` makes the file ``began``, and does its work once there is ``goes_on``."""
    code = (repository / SAMPLER / str(release) / "model.py").read_text(encoding="utf-8")
    waiting = f"""
import time
def _wait_and_initialize(self, args, initialize=TritonPythonModel.initialize):
    Path({str(began)!r}).touch()
    while not Path({str(goes_on)!r}).exists():
        time.sleep(0.05)
    initialize(self, args)
TritonPythonModel.initialize = _wait_and_initialize
"""
    _replace_sampler(repository, release, f"{code}{waiting}")


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
    """The answers are right, and take longer than shops wait."""
    code = (repository / f"{SAMPLER}/{release}/model.py").read_text()
    imports = "        import triton_python_backend_utils"
    slow = code.replace(imports, f"        import time\n        time.sleep(2.5)\n{imports}")
    assert slow != code
    _replace_sampler(repository, release, slow)


def breaks_the_scorer(repository: FolderRepository, release: int) -> None:
    """ONNX reads this graph and ONNX Runtime refuses it: its first operator does not exist."""
    model = onnx.load(str(repository / f"{SCORER}/{release}/{GRAPH}"), load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    replace_file(repository, f"{SCORER}/{release}/{GRAPH}", model.SerializeToString())


def cuts_an_array(repository: FolderRepository, release: int) -> None:
    """The last bytes of the sampler's first array are missing."""
    name = min(name for name in read_release(repository, release).files if "/arrays/" in name)
    replace_file(repository, name, (repository / name).read_bytes()[:-8])


def another_score(repository: Repository, release: int) -> None:
    """One score of the second golden answer is another."""
    first, second, *others = read_release(repository, release).golden
    scores = list(second.answer.scores)
    scores[3] += 0.01
    changed = second.answer.model_copy(update={"scores": tuple(scores)})
    golden = (first, second.model_copy(update={"answer": changed}), *others)
    rewrite_manifest(repository, release, golden=golden)


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


def rewrite_manifest(repository: Repository, release: int, **changes: object) -> None:
    """Replace values of a release's manifest, right or wrong, and sign it again."""
    described = read_release(repository, release).model_copy(update=changes)
    repository.write(f"{ENSEMBLE}/{release}/{manifest.NAME}", described.json_text().encode())
    sign(repository, release, manifest_place(repository, release).read_bytes(), publisher_key())


def replace_file(repository: FolderRepository, name: str, content: bytes) -> None:
    """Exchange a release's file, its hash and the signature, as a faulty build would."""
    path = repository / name
    path.unlink()  # copies of a repository share their files
    path.write_bytes(content)
    release = int(name.split("/")[1])
    files = {**read_release(repository, release).files, **file_record.describe([path], repository.root)}
    rewrite_manifest(repository, release, files=files)
