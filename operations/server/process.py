"""Starts a tritonserver, by default the embedded one, on a published repository; stops it without a trace.

    python -m operations.server --repository artifacts/repository

    with Server(ServerSettings(repository="artifacts/repository")) as server:
        server.wait_ready()
        ...  # server.http, server.grpc, server.metrics

Standard library only. This module runs in the application environment, the server in the serving environment.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Self

from ensemble.candidate_sampler.live.change_log import FOLDER_VARIABLE
from operations.address import join_address
from operations.errors import ServerError
from operations.log_stream import LogStream, drop_unwritten
from operations.server import control_secret
from operations.server.compiled_backend import find_library
from operations.server.environment import (
    ServingEnvironment,
    assemble_runtime,
    backend_directory,
    check_programs,
    check_serving_environment,
    check_space,
    child_variables,
    find_serving_environment,
)
from operations.server.repository_url import triton_url
from operations.server.response_cache import cache_options, cache_secret
from operations.server.runtime_folder import SHARED_MEMORY, RuntimeFolder, sweep, temporary_folder
from operations.server.settings import ServerSettings, check_repository, claim_ports, parse_settings
from operations.server.signals import interrupt_on_signals
from operations.server.stubs import describe_end, ended_children
from operations.server.version import TritonVersion, check_version
from operations.shipped import command

__all__ = ["Server", "ServerError", "ServerSettings"]

START_S = 240.0  # a first start compiles the kernels, which takes half a minute of a core
_LAST_WORDS = 20  # log lines shown when the server dies
_STUBS_S = 1.0  # between two looks at the stubs; tritonserver notices in milliseconds that one has ended
_TABLES = ("+-", "| ")

_RESTRICTED = f"{','.join(control_secret.RESTRICTED)}:{control_secret.HTTP_HEADER}=@SECRET@"
_RESTRICTIONS = (f"--http-restricted-api={_RESTRICTED}", f"--grpc-restricted-protocol={_RESTRICTED}")

# This program becomes tritonserver. Before, it asks the kernel for a SIGTERM, hence a drain, if the parent
# is killed. Triton's JSON parser recurses: with the usual 8 MiB of stack, 100,000 brackets crash the server;
# with 1 GiB not even a million do. The secret arrives in the environment, which only the user can read. It is
# visible in the command line from here until the server has read its options.
_UNTIL_PARENT_DIES = """
import ctypes, os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
stack = 2**30 if hard == resource.RLIM_INFINITY else min(2**30, hard)
resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
secret = os.environ.pop("CESTA_CONTROL_SECRET", "")
if os.getppid() == int(sys.argv[1]):  # else the parent died before the line above
    os.execv(sys.argv[2], [argument.replace("@SECRET@", secret) for argument in sys.argv[2:]])
"""


class Server:
    """A tritonserver process with its stubs, its shared memory and its temporary files, from start to stop.

    `on_log` receives each line that the server or a model prints; error messages quote the last ones.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        environment: ServingEnvironment | None = None,
        on_log: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.settings = settings
        self.triton: TritonVersion | None = None  # once it has been started
        self._runtime = RuntimeFolder()
        self._environment = environment
        self._on_log = on_log
        self._log: deque[str] = deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None
        self._ended_stubs: dict[int, int] = {}  # process id → exit code, when last looked
        self._looked_s = -math.inf
        self._silent = threading.Event()  # set at the end of the log: neither the server nor a stub is left

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def shm_prefix(self) -> str:
        """The unique beginning of the names of its shared memory."""
        return self._runtime.shm_prefix

    @property
    def http(self) -> str:
        """`host:port` of the HTTP service."""
        return join_address(self.settings.host, self.settings.http_port)

    @property
    def grpc(self) -> str:
        """`host:port` of the gRPC service."""
        return join_address(self.settings.host, self.settings.grpc_port)

    @property
    def metrics(self) -> str:
        """`host:port` of the Prometheus metrics, at the path `/metrics`."""
        return join_address(self.settings.host, self.settings.metrics_port)

    @property
    def pid(self) -> int:
        """Process id of tritonserver, which also leads the process group of its stubs."""
        return self._started().pid

    @property
    def log_tail(self) -> str:
        """The last lines of the log, without Triton's tables."""
        lines = list(self._log)  # a copy: another thread appends
        return "\n".join([line for line in lines if not line.startswith(_TABLES)][-_LAST_WORDS:])

    def start(self) -> None:
        """Check the machine and start the process, without waiting for it: see `wait_ready`.

        Raises `ServerError` with the way out if the server cannot start.
        """
        environment = self._environment = self._environment or find_serving_environment()
        check_serving_environment(environment)
        check_programs(environment)
        check_repository(self.settings)
        for folder in sweep():
            self._on_log(f"removed {folder}, which a killed server left")
        check_space(SHARED_MEMORY, temporary_folder())
        self.settings = claim_ports(self.settings)
        self.triton = check_version(environment, self.settings)
        try:
            runtime = self._runtime.make()
            assemble_runtime(runtime, environment, self._onnx_library(environment))
            self._process = self._launch(environment, runtime)
        except BaseException:
            self.stop(grace_s=0)
            raise

    def wait_ready(self, canary: Callable[[], object] | None = None, timeout_s: float = START_S) -> None:
        """Wait until `canary`, a real inference, raises no error; without a canary, until Triton is ready.

        Raises `ServerError` with the last log lines if the server or a stub ends, or `timeout_s` passes.
        """
        canary = canary or self._check_health
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                canary()
                return
            except Exception as error:
                not_ready = f"not ready after {timeout_s:g} s ({error})"
            if self._silent.wait(0.05) or self._started().poll() is not None:
                raise ServerError(f"tritonserver ended with {self.wait()} while starting:\n{self.log_tail}")
            self.check_stubs()
            if time.monotonic() > deadline:
                raise ServerError(f"tritonserver {not_ready}:\n{self.log_tail}")

    def check_stubs(self) -> None:
        """Raise `ServerError` if tritonserver waits for a stub that has ended. It looks once a second.

        A stub that is found twice is one that tritonserver does not notice.
        """
        if (now_s := time.monotonic()) - self._looked_s < _STUBS_S:
            return
        ended, before = ended_children(self.pid), self._ended_stubs
        self._ended_stubs, self._looked_s = ended, now_s
        for code in (ended[pid] for pid in ended.keys() & before.keys()):
            python = self._environment.python_version if self._environment else ""
            raise ServerError(describe_end(code, list(self._log), python))

    @property
    def exit_code(self) -> int | None:
        """The exit code of tritonserver; None while it runs."""
        return self._started().poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the server ends and return its exit code. Raises `subprocess.TimeoutExpired`."""
        return self._started().wait(timeout_s)

    def stop(self, grace_s: float | None = None) -> None:
        """Let requests in flight finish, end every process, remove their files. Safe to call twice.

        Processes that still run after `grace_s` are killed. By default that is `drain_s` and 5 s more.
        """
        grace_s = self.settings.drain_s + 5 if grace_s is None else grace_s
        try:
            if self._process and self._process.poll() is None:
                self._process.terminate()  # not its stubs: it needs them to finish the requests
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
        finally:
            self._remove_traces()

    def _launch(self, environment: ServingEnvironment, runtime: Path) -> subprocess.Popen[str]:
        started: Future[subprocess.Popen[str]] = Future()
        threading.Thread(target=self._run, args=(environment, runtime, started), daemon=True).start()
        return started.result()

    def _run(
        self, environment: ServingEnvironment, runtime: Path, started: Future[subprocess.Popen[str]]
    ) -> None:
        """Start the process and read its log to the end.

        One thread does both, because PR_SET_PDEATHSIG fires when the *thread* that forked ends.
        """
        trampoline = [sys.executable, "-ISc", _UNTIL_PARENT_DIES, str(os.getpid())]
        secret = self.settings.control_secret
        try:
            process = subprocess.Popen(
                [*trampoline, *self._command(environment, runtime)],
                env=child_variables(
                    runtime,
                    environment,
                    threads=self.settings.threads,
                    repository=self.settings.repository,
                )
                | ({FOLDER_VARIABLE: str(self.settings.live.absolute())} if self.settings.live else {})
                | cache_secret(self.settings.response_cache)
                | ({control_secret.VARIABLE: secret} if secret else {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops this in order
            )
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(process)
        with process.stdout or contextlib.nullcontext(()) as log:
            for line in log:
                if secret:
                    self._hide(secret, process.pid)  # it prints, so it has read its options
                    secret = ""
                self._log.append(line.rstrip())
                self._on_log(line.rstrip())
        self._silent.set()

    def _hide(self, secret: str, pid: int) -> None:
        try:
            control_secret.hide_argument(pid, secret)
        except ProcessLookupError:
            return
        except OSError as error:
            self._on_log(f"the control secret stays in the command line of process {pid}: {error}")

    def _command(self, environment: ServingEnvironment, runtime: Path) -> list[str]:
        settings = self.settings
        is_ipv6 = ":" in settings.host
        http_host = f"ipv6:{settings.host}" if is_ipv6 else settings.host  # as libevhtp writes it
        grpc_host = f"[{settings.host}]" if is_ipv6 else settings.host
        return [
            str(environment.program),
            f"--model-repository={triton_url(settings.repository)}",
            f"--backend-directory={backend_directory(runtime, environment)}",
            f"--cache-directory={environment.triton / 'caches'}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            "--model-control-mode=explicit",  # polling would serve a half-written release
            *(f"--load-model={model}" for model in settings.models),
            # Only if Triton reads configs: with it, Triton reloads every version when config.pbtxt changes.
            *([f"--model-config-name={settings.config}"] if settings.config and settings.models else []),
            f"--exit-on-error={str(settings.strict).lower()}",
            f"--exit-timeout-secs={settings.drain_s}",
            f"--http-address={http_host}",
            f"--http-port={settings.http_port}",
            f"--grpc-address={grpc_host}",
            f"--grpc-port={settings.grpc_port}",
            f"--metrics-address={http_host}",
            f"--metrics-port={settings.metrics_port}",
            # The embedded server sees no GPU; looking for one logs errors.
            f"--allow-gpu-metrics={str(environment.installation is not None).lower()}",
            f"--log-verbose={settings.log_verbose}",
            *cache_options(settings.response_cache, environment.triton / "caches"),
            *(_RESTRICTIONS if settings.control_secret else ()),
            *settings.extra_args,
        ]

    def _onnx_library(self, environment: ServingEnvironment) -> Path | None:
        if environment.installation or self.settings.onnx_backend == "python":
            return None
        library = find_library(environment)
        if library is None:
            self._on_log(
                f'no compiled onnxruntime backend: the slower Python one serves; run "{command("install")}"'
            )
        return library

    def _check_health(self) -> None:
        connection = http.client.HTTPConnection(self.http, timeout=1)
        with contextlib.closing(connection):
            connection.request("GET", "/v2/health/ready")
            if (status := connection.getresponse().status) != 200:
                raise ServerError(f"/v2/health/ready answers {status}")

    def _remove_traces(self) -> None:
        if self._process:
            if self._process.poll() is None or not self._silent.wait(2):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._silent.wait(5)
        self._runtime.remove()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ServerError("the server was not started; call start() or use it in a with statement")
        return self._process


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve in the foreground. Returns 0 after Ctrl-C or SIGTERM, 1 when the server ends by itself."""
    settings = parse_settings(main.__doc__, arguments)
    interrupt_on_signals()
    out = LogStream("stdout")
    try:
        settings = replace(settings, control_secret=control_secret.find_secret())
        with Server(settings, on_log=lambda line: print(line, file=out, flush=True)) as server:
            server.wait_ready(timeout_s=math.inf)
            print(
                f"ready: http {server.http} grpc {server.grpc} metrics {server.metrics}", file=out, flush=True
            )
            code = server.wait()
            print(f"tritonserver ended by itself with {code}:\n{server.log_tail}", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(error, file=sys.stderr)
    finally:
        drop_unwritten(sys.stdout)
    return 1
