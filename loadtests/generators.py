"""Runs the load generators and reads their results.

wrk for HTTP and perf_analyzer for gRPC are compiled. Two loops of our own do what these cannot.
"""

import csv
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.questions import PLACEHOLDER
from operations.server.environment import find_serving_environment

FOLDER: Final = Path(__file__).resolve().parent
PERF_ANALYZER_FROM: Final = "2.48.0"  # later wheels of tritonclient no longer contain it
LONGEST_S: Final = 300  # of an open loop that nobody ends earlier
_TRIES: Final = 3  # perf_analyzer reports after so many windows
_LIBRARIES: Final = {
    "libb64.so.0d": "libb64-*",
    "libcudart.so.12": "libcudart-*",
}  # of the serving environment


class GeneratorError(Exception):
    """A load generator is missing or failed; the text names the way out."""


@dataclass(frozen=True)
class Load:
    """The result of one run: latencies in milliseconds; `cpu_s` is the CPU time of the generator itself."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float

    @property
    def rps(self) -> float:
        return self.requests / self.seconds


def run_wrk(
    address: str, requests: Path, *, connections: int, seconds: float, first: int = 0, fresh: bool = False
) -> Load:
    """Closed loop over HTTP: each connection sends its next request after the answer to the last one.

    With `fresh`, every request has the PLACEHOLDER, and gets digits of its own there.
    """
    if not shutil.which("wrk"):
        raise GeneratorError("wrk is not installed; on Debian: apt-get install wrk")
    command = ["wrk", "--threads=1", f"--connections={connections}", f"--duration={max(round(seconds), 1)}s"]
    command += ["--timeout=10s", f"--script={FOLDER / 'replay.lua'}", f"http://{address}"]
    seeded = [PLACEHOLDER, str(secrets.randbelow(2**31))] if fresh else []
    printed, cpu_s = _run([*command, "--", str(requests), str(first), *seeded])
    return Load(cpu_s=cpu_s, **_read_result(printed))


def run_open_loop(address: str, requests: Path, *, rate: float, seconds: float, first: int = 0) -> Load:
    """Open loop over HTTP: a constant rate. Latency counts from the moment when a request is due."""
    command = [sys.executable, "-m", "loadtests.open_loop", address, str(requests)]
    printed, cpu_s = _run([*command, f"--rate={rate:.1f}", f"--seconds={seconds}", f"--first={first}"])
    return Load(cpu_s=cpu_s, **_read_result(printed))


def run_grpc_loop(
    address: str,
    messages: Path,
    *,
    key: str = "",
    connections: int,
    seconds: float,
    first: int = 0,
    fresh: bool = False,
) -> Load:
    """Closed loop over gRPC, before a gateway, too. `fresh` as in run_wrk."""
    command = [sys.executable, "-m", "loadtests.gateway.grpc_loop", address, str(messages)]
    command += [f"--connections={connections}", f"--seconds={seconds}", f"--first={first}"]
    command += ["--fresh"] if fresh else []
    printed, cpu_s = _run(command, env={"CESTA_KEYS": key})
    return Load(cpu_s=cpu_s, **_read_result(printed))


@contextmanager
def keep_open_loop_running(address: str, requests: Path, answers: Path, *, rate: float) -> Iterator[None]:
    """Run the same open loop during the block. After it the file `answers` holds every answer."""
    command = [sys.executable, "-m", "loadtests.open_loop", address, str(requests), f"--rate={rate:.1f}"]
    command += [f"--seconds={LONGEST_S}", f"--answers={answers}", "--until-closed"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            printed = process.stdout.readline()
            if printed.startswith("BEGUN"):
                yield
                process.stdin.close()
            printed += process.stdout.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise GeneratorError(f"the open loop ended with {process.returncode}: {printed[-1000:]}")


def run_perf_analyzer(
    binary: Path, address: str, questions: Path, *, seconds: float, concurrency: int = 0, rate: float = 0
) -> Load:
    """gRPC: a closed loop at a `concurrency`, or a constant `rate`. Latency counts from the real sending."""
    pace = (
        [f"--request-rate-range={rate:.0f}", "--request-distribution=constant"]
        if rate
        else [f"--concurrency-range={concurrency}"]
    )
    window_ms = round(seconds * 1000 / _TRIES)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [str(binary), "-m", "recommender", "-i", "grpc", "-u", address, "--async", *pace]
        command += [f"--input-data={questions}", f"--measurement-interval={window_ms}"]
        command += [f"--max-trials={_TRIES}", "--stability-percentage=999", "-f", str(report)]
        _, cpu_s = _run(command, env={"LD_LIBRARY_PATH": str(binary.parent)})
        with report.open(encoding="utf-8") as lines:
            row = next(csv.DictReader(lines))
    rps = float(row["Inferences/Second"])
    measured_s = window_ms * _TRIES / 1000
    return Load(
        requests=round(rps * measured_s),
        seconds=measured_s,
        p50_ms=float(row["p50 latency"]) / 1000,
        p99_ms=float(row["p99 latency"]) / 1000,
        errors=0,  # perf_analyzer stops with an error at the first failed request
        cpu_s=cpu_s,
    )


def run_in_process(run: Path, questions: Path, *, batch: int, seconds: float) -> Load:
    """Run the chain without a server and without a generator, one process per core."""
    command = [sys.executable, "-m", "loadtests.bench.limit", str(questions), f"--run={run}"]
    options = [f"--batch={batch}", f"--seconds={seconds}"]
    printed, _ = _run([*command, *options], env={"OMP_NUM_THREADS": "1"})  # one thread per process
    return Load(**_read_result(printed))


def find_perf_analyzer(folder: Path) -> Path:
    """The binary from the wheel of tritonclient 2.48.0, below `folder`. pip downloads it the first time."""
    binary = folder / "perf_analyzer"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _unpack(binary)
    return binary


def _unpack(binary: Path) -> None:
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        requirement = f"tritonclient=={PERF_ANALYZER_FROM}"
        process = subprocess.run([*pip, f"--dest={scratch}", requirement], capture_output=True, text=True)
        if process.returncode:
            raise GeneratorError(f"pip download {requirement} failed: {process.stderr[-500:]}")
        (wheel,) = Path(scratch).glob("*.whl")
        shutil.unpack_archive(wheel, scratch, "zip")
        (unpacked,) = (path for path in Path(scratch).rglob("perf_analyzer") if path.is_file())
        for name, pattern in _LIBRARIES.items():  # it needs libraries that the server's wheel brings, too
            libraries = find_serving_environment().site_packages / "nvidia_pytriton.libs"
            shutil.copy(next(libraries.glob(pattern)), binary.parent / name)
        unpacked.chmod(0o755)
        unpacked.rename(binary)


def _run(command: list[str], env: dict[str, str] | None = None) -> tuple[str, float]:
    """Run a command; return its output and its CPU seconds."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read()
    if process.returncode:
        raise GeneratorError(f"{Path(command[0]).name} ended with {process.returncode}: {printed[-1000:]}")
    return printed, usage.ru_utime + usage.ru_stime


def _read_result(printed: str) -> dict[str, Any]:
    if not (match := re.search(r"^RESULT (.*)$", printed, flags=re.MULTILINE)):
        raise GeneratorError(f"the generator printed no result: {printed[-1000:]}")
    return dict(json.loads(match[1]))
