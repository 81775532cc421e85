"""`cesta retrain`: the loop from new receipts to a release that shops have tried."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.commands.options import receipts_options, takes
from export_scripts.settings import Settings
from operations.address import split_address
from operations.commands.install import prepare
from operations.commands.options import ADDRESS, Address, Out, Repository
from operations.errors import CestaError
from operations.log_stream import LogStream
from operations.outputs import ARTIFACTS, Outputs
from operations.records.disk import explain

if TYPE_CHECKING:
    from export_scripts.retraining.server import Server
    from operations.releases.stores.store import Repository as AnyRepository

SUPERVISOR = "127.0.0.1:8003"


@takes(receipts_options)
def retrain(
    chosen: Settings,
    out: Out = ARTIFACTS,
    repository: Repository = None,
    address: Address = ADDRESS,
    supervisor: Annotated[
        str,
        typer.Option(
            envvar="CESTA_SUPERVISOR",
            help="host:port of that server's supervisor, which counts the requests of the canary release.",
        ),
    ] = SUPERVISOR,
    gateway: Annotated[
        str | None,
        typer.Option(
            envvar="CESTA_GATEWAY",
            help="https://… of a gateway, in place of both: with the key in CESTA_ADMIN_KEY(_FILE).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record of the run.")] = False,
) -> None:
    """New receipts → a release that becomes active unless it is worse.

    Start it by cron, a systemd timer or a CronJob. It runs the stages that are
    not fresh, publishes the release and asks the gate. It gives the release a
    share of the requests, compares it with the active one in the same minutes,
    promotes it or ends it, and retires old releases. A run that was killed goes
    on when it is started again. OUT/retraining.json records each run. Its
    settings are the table retrain of a toml. docs/operations.md has the exit codes.
    """
    from export_scripts.retrain import retrain as run
    from export_scripts.retraining.outcome import outcome_of
    from operations.releases.stores.store import open_repository

    target = open_repository(repository or Outputs(out).repository)
    if gateway is None and not dry_run:
        prepare()  # a release is tried before it is loaded
    server = _server(gateway, target, address, supervisor, chosen)
    try:
        if dry_run:
            _print_plan(chosen, out, target, server)
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # undoes a change that is under way
        keep_freed_memory()
        record = run(chosen, out, target, server)
    except (CestaError, OSError) as error:
        sentence = explain(error) if isinstance(error, OSError) else str(error)
        print(sentence, file=LogStream())
        raise typer.Exit(outcome_of(error).code) from None
    print(record.model_dump_json(indent=2, exclude_none=True) if as_json else record.sentence)


def _server(
    gateway: str | None, repository: "AnyRepository", address: str, supervisor: str, settings: Settings
) -> "Server":
    from export_scripts.retraining.server import LocalServer, RemoteServer
    from operations.gateway.remote import RemoteGateway, read_admin_key

    if gateway:
        return RemoteServer(RemoteGateway(gateway, read_admin_key()))
    for place in (address, supervisor):
        split_address(place)  # a slip of the pen is told now, and not after the training
    return LocalServer(repository, address, supervisor, settings.release)


def _print_plan(settings: Settings, out: Path, repository: "AnyRepository", server: "Server") -> None:
    from export_scripts.receipts.problems import Problems
    from export_scripts.receipts.reading.parts import find_parts
    from export_scripts.retrain import stale_stages
    from export_scripts.retraining.plan import plan

    problems = Problems()
    for place in (settings.data.transactions, settings.data.products, settings.data.stores):
        if place is not None:
            find_parts(place, problems)
    problems.raise_if_any()
    for sentence in plan(out, repository, server, settings.retrain, stale_stages(settings, out, repository)):
        print(sentence)
