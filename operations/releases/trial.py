"""Tries a release in a second tritonserver, where a failure cannot reach the one that serves.

The second server starts empty. It loads sampler and scorer of this release alone, one instance each, answers
the golden requests, and ends. docs/decisions/0066-a-trial-in-a-second-server.md has the reasons.
"""

import atexit
import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

import structlog

from operations.errors import CestaError, ServerError
from operations.records.contract import Config
from operations.records.manifest import ReleaseManifest
from operations.releases.golden import check_golden
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import part_config
from operations.releases.models.placing import parts_of
from operations.server.environment import find_serving_environment
from operations.server.memory import available_gpu_memory, available_memory
from operations.server.process import Server, ServerSettings
from operations.server.settings import WHOLE_CONFIGS

VARIABLE: Final = "CESTA_RELEASE_TRIAL"
CHOICES: Final = ("run", "skip")  # its values; the first is the default
SKIP: Final = f"{VARIABLE}=skip loads a release without a trial"

# Server and models without a release take 410 MiB. A release adds what its processes copy, 230 bytes an item,
# some twelve times its graph, which holds the ids. Its other files are mapped: each answer reads a part, and
# the kernel drops pages when memory runs short. Both by the tables of docs/performance.md.
IDLE_BYTES: Final = 420 * 2**20
COPIES: Final = 16  # of the bytes of graphs
READ_SHARE: Final = 1 / 8  # of the bytes of mapped files
GRAPH_SUFFIX: Final = ".onnx"
GPU_BYTES: Final = 2**30  # the libraries of CUDA and TensorRT, and the space in which an engine is built

START_S: Final = 30.0
LOAD_S: Final = 90.0  # the demo takes 3, new code 6 more to be compiled; other work may take the cores
ENGINE_S: Final = 540.0  # more, where a GPU's engine is built
LOAD_BYTES_PER_S: Final = 10e6
ANSWER_S: Final = 15.0  # to a golden request; it usually takes milliseconds
SLOWEST_S: Final = 2.0  # of a second answer; the gateway waits no longer
LATE: Final = "it neither loads nor fails within the time for its size"
ENDING_S: Final = 0.5
POLL_S: Final = 0.02
FIRST_TO_BE_KILLED: Final = "1000"  # oom_score_adj: the kernel ends this server before the one that serves


class Trial:
    """A second server. Without one, ``untried`` says why, and ``run`` does nothing."""

    def __init__(self, server: Server | None, untried: str = "") -> None:
        self._server, self.untried = server, untried

    def run(self, release: ReleaseManifest, config: str = "") -> None:
        """Load the release, which was verified, with the named config, and ask its golden requests.

        Raises CestaError with the reason if it does not load or answers otherwise.
        """
        if self._server is None:
            return
        secret = self._server.settings.control_secret
        limit_s = load_limit_s(release, config)
        limits = {"load_timeout_s": limit_s, "infer_timeout_s": ANSWER_S}
        with ModelControl(self._server.grpc, secret, **limits) as control:
            _await_listening(self._server, control)
            _load_parts(self._server, control, release, config)
            try:
                _check_speed(control, release)
                check_golden(control, release)
            except CestaError as error:
                late = f"it does not answer a golden request within {ANSWER_S:g} s"
                raise _explained(error, self._server, late) from None


@contextlib.contextmanager
def open_trial(folder: Path, release: ReleaseManifest, config: str = "") -> Iterator[Trial]:
    """Start the second server for a release; it ends with the block. It loads nothing before ``run``.

    ``folder`` is the repository in which the release lies by then. Raises CestaError if the server cannot
    start, or if memory is short.
    """
    if untried := _reason_for_none():
        structlog.get_logger().warning("release not tried", release=release.release, reason=untried)
        yield Trial(None, untried)
        return
    _check_memory(release, config)
    settings = ServerSettings(
        repository=folder,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        models=(),
        response_cache=0,
        control_secret=secrets.token_urlsafe(32),
        extra_args=WHOLE_CONFIGS,
    )
    server = Server(settings)
    atexit.register(server.stop, grace_s=0)  # a trial in a daemon thread ends with its process
    try:
        server.start()
        with contextlib.suppress(OSError):  # it has ended already, which `run` reports
            Path(f"/proc/{server.pid}/oom_score_adj").write_text(FIRST_TO_BE_KILLED)
        yield Trial(server)
    finally:
        server.stop(grace_s=0)
        atexit.unregister(server.stop)


def load_limit_s(release: ReleaseManifest, config: str = "") -> float:
    """The seconds after which a load that neither ends nor fails counts as failed."""
    return LOAD_S + _bytes(release) / LOAD_BYTES_PER_S + (ENGINE_S if config else 0)


def _reason_for_none() -> str:
    """Why no release can or shall be tried here; "" if it can."""
    wanted = os.environ.get(VARIABLE) or CHOICES[0]
    if wanted not in CHOICES:
        raise CestaError(f'{VARIABLE} is "{wanted}"; use {" or ".join(CHOICES)}')
    if wanted == "skip":
        return f"{VARIABLE} is skip"
    try:
        find_serving_environment()
    except ServerError as error:
        return str(error)
    return ""


def _check_memory(release: ReleaseManifest, config: str) -> None:
    """Raise CestaError unless an idle server and the release fit into memory beside what runs."""
    needed, memory = IDLE_BYTES + _memory_bytes(release), available_memory()
    if memory and memory.free < needed:
        raise CestaError(
            f"the trial of release {release.release} takes about {_mib(needed)}, and {memory.owner} leaves "
            f"{_mib(memory.free)}; give it more memory, unload the canary release, or {SKIP}"
        )
    if not config:
        return
    needed, free = GPU_BYTES + _bytes(release), available_gpu_memory()
    if free is not None and free < needed:
        raise CestaError(
            f"the trial of release {release.release} takes about {_mib(needed)} of GPU memory, and the "
            f"fullest GPU has {_mib(free)} free; end what else uses it, or {SKIP}"
        )


def _bytes(release: ReleaseManifest) -> int:
    return sum(file.bytes for file in release.files.values())


def _memory_bytes(release: ReleaseManifest) -> float:
    """What a release takes in memory when it has answered some requests."""
    return sum(
        file.bytes * (COPIES if name.endswith(GRAPH_SUFFIX) else READ_SHARE)
        for name, file in release.files.items()
    )


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _await_listening(server: Server, control: ModelControl) -> None:
    deadline = time.monotonic() + START_S
    while server.exit_code is None and not control.is_there():
        if time.monotonic() > deadline:
            raise ServerError(f"tritonserver does not listen after {START_S:g} s:\n{server.log_tail}")
        time.sleep(POLL_S)


def _load_parts(server: Server, control: ModelControl, release: ReleaseManifest, config: str) -> None:
    """Load all parts at the same time. The first that fails ends the server, and so the others."""
    configs = [
        _alone(part_config(model, release.contract, {release.release}, config))
        for model in parts_of(release).values()
    ]
    with ThreadPoolExecutor(len(configs)) as pool, contextlib.ExitStack() as failed:
        failed.callback(server.stop, grace_s=0)  # before the pool waits for the other load
        loading = [pool.submit(control.load, each) for each in configs]
        while (state := wait(loading, POLL_S, FIRST_EXCEPTION)).not_done:
            if any(load.exception() for load in state.done):
                break
            try:
                server.check_stubs()
            except ServerError as ended:
                raise CestaError(f"in a second server, {ended}") from None
        for load in state.done:
            if error := load.exception():
                raise _explained(error, server)
        failed.pop_all()


def _check_speed(control: ModelControl, release: ReleaseManifest) -> None:
    """Ask the first golden request, and once more if that is slow. Raises CestaError if both are."""
    first = release.model_copy(update={"golden": release.golden[:1]})
    for _ in range(2):
        began_s = time.monotonic()
        check_golden(control, first)
        took_s = time.monotonic() - began_s
        if took_s <= SLOWEST_S:
            return
    raise CestaError(f"a golden request takes {took_s:.1f} s, and shops wait {SLOWEST_S:g} s")


def _alone(config: Config) -> Config:
    """The config with one instance."""
    del config.instance_group[1:]
    for group in config.instance_group:
        group.count = 1
    return config


def _explained(error: BaseException, server: Server, late: str = LATE) -> CestaError:
    """The trial's error: Triton's words, ``late`` after a deadline, its last lines if it ended by itself."""
    text = str(error).removeprefix(f"{server.grpc}: ")
    if "Deadline Exceeded" in text:
        text = late
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = server.wait(ENDING_S)  # when a server ends, its calls fail first
        text = f"tritonserver ended with {code}:\n{server.log_tail}"
    return CestaError(f"in a second server, {text}")
