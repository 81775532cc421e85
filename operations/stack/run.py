"""Runs the stack: starts the programs in order, keeps each up by itself, stops them in the reverse order."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from operations.errors import CestaError
from operations.gateway.items import write_items
from operations.gateway.nginx import Gateway
from operations.log_stream import announce
from operations.outputs import ITEMS
from operations.processes.listeners import check_free
from operations.server.signals import collect_signals
from operations.stack.keeper import POLL_S, Keeper
from operations.stack.process import Process
from operations.stack.programs import (
    RUNBOOKS,
    Addresses,
    alertmanager,
    check_machine,
    gateway_settings,
    prometheus,
    supervisor,
)
from operations.supervisor.threads import run_in_thread


@contextlib.contextmanager
def run_stack(
    out: Path,
    repository: str,
    addresses: Addresses,
    is_over: Callable[[], object] = lambda: False,
    runbooks: str = RUNBOOKS,
) -> Iterator[Sequence[Keeper]]:
    """Run the stack until the block ends; the block begins when everything is ready.

    ``out`` holds gateway/, prometheus/ and alertmanager/. Yields the keepers, which say what was given up.

    Raises CestaError if a program is missing or does not start, KeyboardInterrupt if ``is_over`` meanwhile.
    """
    check_machine()
    gateway, ending = out / "gateway", threading.Event()
    programs: dict[str, Process | Gateway] = {
        "supervisor": Process(supervisor(repository, gateway, addresses), ending),
        "gateway": Gateway(gateway_settings(gateway, addresses)),
        "alertmanager": Process(alertmanager(out / "alertmanager", addresses), ending),
        "prometheus": Process(prometheus(out / "prometheus", addresses, runbooks), ending),
    }
    for program in programs.values():
        program.clear()
    for address in vars(addresses).values():
        check_free(address)
    if (out / "data" / ITEMS).exists():
        write_items(out / "data", gateway)
    keepers = [Keeper(name, program, ending) for name, program in programs.items()]
    with contextlib.ExitStack() as running:
        try:
            for keeper in keepers:
                _start(keeper, running, is_over)
            yield keepers
        finally:
            ending.set()


def serve_stack(out: Path, repository: str, addresses: Addresses, runbooks: str = RUNBOOKS) -> None:
    """Run the stack until Ctrl-C, SIGTERM or the terminal's hang-up, or until all programs are given up.

    Alerts link to their entries at ``runbooks``, an address or a file.

    Raises CestaError if a program does not start, and at the end if one was given up.
    """
    signals = collect_signals()
    given_up: list[str] = []
    with (
        contextlib.suppress(KeyboardInterrupt),
        run_stack(out, repository, addresses, lambda: signals, runbooks) as keepers,
    ):
        announce(
            f"ready: http://{addresses.http}/v1/recommend, grpc {addresses.grpc}; "
            f"Prometheus http://{addresses.prometheus}, Alertmanager http://{addresses.alertmanager}\n"
            f"a key: cesta keys add NAME --folder {out / 'gateway'}"
        )
        while not signals and not all(keeper.given_up for keeper in keepers):
            time.sleep(POLL_S)
        given_up += [keeper.given_up for keeper in keepers if keeper.given_up]
    if given_up:
        raise CestaError("\n".join(given_up))


def _start(keeper: Keeper, running: contextlib.ExitStack, is_over: Callable[[], object]) -> None:
    """Run a keeper in a thread of its own until ``running`` ends; return when its program is ready."""
    outcome = run_in_thread(keeper.run)
    running.callback(outcome.exception)
    running.callback(keeper.stop)
    while not keeper.ready.wait(POLL_S):
        if outcome.done():
            outcome.result()
        if is_over():
            raise KeyboardInterrupt
