"""The process that explains answers of one release, in the serving environment.

Whoever starts it holds the other end of a socket. It says when it is ready, then answers one question at a
time, each a JSON object in one message, until the socket is closed. `operations/explaining` starts it.

The sampler is the release's own code, as in the server, so that it proposes the same candidates.
"""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.explanation.explainer import Explainer

NICE = 10  # shoppers come first; at 19 a busy machine would leave it a 70th of a core, too little to start


def main() -> None:
    """Serve the socket whose descriptor is the last argument."""
    os.nice(NICE)
    nobody_asks = contextlib.suppress(EOFError, BrokenPipeError)
    with Connection(int(sys.argv[-1])) as asker, nobody_asks:
        _serve(asker)


def _serve(asker: Connection) -> None:
    """Answer until the socket is closed. What fails is told, and ends the process."""
    described = json.loads(asker.recv_bytes())
    model = asker.recv_bytes()
    try:
        explainer = _open(described, model)
        refresh = _stock_reader(explainer, described["live"])
        _send(asker, {"ready": True})
        while True:
            question = json.loads(asker.recv_bytes())
            refresh()
            _send(asker, _answer(explainer, question))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        _send(asker, {"failed": f"{type(error).__name__}: {error}"})


def _open(described: dict[str, Any], model: bytes) -> "Explainer":
    """Load the release whose folder of sampler and arrays, and whose graph, are described."""
    use_sampler_of(Path(described["sampler"]), os.environ.get("NUMBA_CACHE_DIR"))
    from ensemble.explanation.explainer import Explainer
    from ensemble.explanation.scored_graph import ScoredGraph

    graph = ScoredGraph(
        model, described["scores"], described["bias"], tuple(described["wide"]), Path(described["tables"])
    )
    explainer = Explainer(Path(described["sampler"]) / "arrays", graph)
    explainer.ask(explainer.vocabulary.query([b"?", b"!"], b"?")).explain_first(1)  # compiles the kernels
    return explainer


def _stock_reader(explainer: "Explainer", folder: str | None) -> Callable[[], None]:
    """What brings the explainer's stock up to date; nothing where the release or the server has none."""
    if folder is None or explainer.live is None:
        return lambda: None
    from ensemble.explanation.stock import follow

    return follow(Path(folder), explainer.live)


def use_sampler_of(release: Path, cache: str | None) -> None:
    """Have `ensemble.candidate_sampler` be the code in the folder of a release.

    Its kernels are compiled already where a server of this user has loaded that code.
    """
    sys.path.insert(0, str(release.parent))
    try:
        package = _compiled(release, cache)
    finally:
        sys.path.remove(str(release.parent))
    sys.path.insert(0, str(package.parent))
    for file in sorted(package.glob("*.py")):
        if file.stem not in ("adapter", "model"):  # those talk to Triton
            name = "" if file.stem == "__init__" else f".{file.stem}"
            module = importlib.import_module(f"{package.name}{name}")
            sys.modules[f"ensemble.candidate_sampler{name}"] = module


def _compiled(release: Path, cache: str | None) -> Path:
    """The package of the release's code that its server runs, or else its own folder."""
    try:
        shared_code = importlib.import_module(f"{release.name}.shared_code")
        return Path(shared_code.shared(release, Path(cache) / "code")) if cache else release
    except (ImportError, OSError):  # made before that module was; or the folder cannot be written
        return release


def _answer(explainer: "Explainer", question: dict[str, Any]) -> dict[str, Any]:
    from ensemble.candidate_sampler.query import BadRequest
    from ensemble.explanation.report import explain

    try:
        return explain(explainer, question["question"], question["k"], question["item_ids"])
    except BadRequest as error:
        return {"refused": str(error)}


def _send(asker: Connection, told: dict[str, Any]) -> None:
    asker.send_bytes(json.dumps(told, allow_nan=False).encode())
