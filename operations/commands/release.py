"""`cesta release`: the runbook of a repository's releases."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.releases.store import open_repository
from operations.settings import load_bars

if TYPE_CHECKING:
    from operations.releases.model_control import ModelControl

REPOSITORY = str(Outputs(ARTIFACTS).repository)

app = typer.Typer(no_args_is_help=True, add_completion=False)

Repository = Annotated[
    Any,
    typer.Option(
        parser=open_repository, metavar="TEXT", help="A published repository: a folder, s3://… or gs://…"
    ),
]
Address = Annotated[str, typer.Option(help="host:port of the server's gRPC, as cesta serve prints it.")]
Offline = Annotated[bool, typer.Option(help="Change only what the next start serves.")]
Release = Annotated[int, typer.Argument(help="A release's number.")]
Force = Annotated[bool, typer.Option(help="Against the gate's objections; the record says so.")]
Bars = Annotated[Path | None, typer.Option(help="A toml with bars of your own in its release table.")]
ADDRESS = "127.0.0.1:8001"


@app.callback()
def release() -> None:
    """Releases: see what there is, promote one, roll back, retire old ones.

    \b
    The usual day:
      cesta release list           what there is, and what is active
      cesta release verify 7       every file is as it was published
      cesta release diff 6 7       what changes: data, settings, metrics
      cesta release canary 7       a share of the requests first
      cesta release promote 7      serve it, if it proves good
      cesta release rollback       looks wrong: back, in milliseconds
      cesta release retire         has proven itself: delete old ones

    \b
    A running server is switched without a failed request. Where none runs, the
    next "cesta serve" starts with what was promoted. What fails is undone: the
    sentence says at which step and why, and the old release answers all the
    while. Who did what stands in promotions.jsonl of the repository.
    """


@app.command("list")
def list_(repository: Repository = REPOSITORY) -> None:
    """What there is: number, age, data, HR@10, and which one is active or was before."""
    from operations.releases.configs import canary_on_disk
    from operations.releases.history import previous
    from operations.releases.repository import active_release, read_release

    numbers = _published(repository)
    marks = {previous(repository): "previous", active_release(repository): "active"}
    if canary := canary_on_disk(repository):
        marks[canary.release] = f"canary {canary.percent:g} %"
    table = Table()
    for column in ("release", "created at", "data until", "HR@10", ""):
        table.add_column(column)
    for number in numbers:
        described = read_release(repository, number)
        known = (described.get("metrics") or {}).get("known") or {}
        data, hr = described.get("data") or {}, known.get("hr_at_10")
        hr_text = "not measured" if hr is None else f"{hr:.4f}"
        created = described.get("created_at", "")
        table.add_row(str(number), created, str(data.get("last", "")), hr_text, marks.get(number, ""))
    Console(width=110).print(table)


@app.command()
def show(release: Release, repository: Repository = REPOSITORY) -> None:
    """What a release says of itself, but for files and golden requests, and its history; as JSON."""
    from operations.releases.history import read
    from operations.releases.repository import read_release

    _published(repository)
    described = read_release(repository, release)
    left_out = {"files", "golden"}
    shown = {name: value for name, value in described.items() if name not in left_out}
    shown["history"] = [record for record in read(repository) if record["release"] == release]
    print(json.dumps(shown, indent=2, ensure_ascii=False))


@app.command()
def verify(release: Release, repository: Repository = REPOSITORY) -> None:
    """Hash every file, hold the graph to the contract; names the first file that is not as it should be."""
    from operations.releases.verify import verify_release

    _published(repository)
    files = verify_release(repository, release)["files"]
    size = sum(about["bytes"] for about in files.values())
    print(f"release {release} is whole: {len(files)} files, {size / 1e6:.1f} MB")


@app.command()
def diff(
    one: Release,
    other: Annotated[int, typer.Argument(help="Another's.")],
    repository: Repository = REPOSITORY,
) -> None:
    """What is different between two releases: data, settings, metrics with their intervals, code, files."""
    from operations.releases.diff import diff as run
    from operations.releases.repository import read_release

    _published(repository)
    table = Table("", f"release {one}", f"release {other}")
    for row in run(read_release(repository, one), read_release(repository, other)):
        table.add_row(*row)
    Console(width=110).print(table)


@app.command()
def promote(
    release: Release,
    repository: Repository = REPOSITORY,
    address: Address = ADDRESS,
    offline: Offline = False,
    force: Force = False,
    settings: Bars = None,
) -> None:
    """Have a release served. Verifies it, asks its golden requests, switches, asks a canary, records it.

    Refused if a metric is below the active release's 95 % interval or below the bars of
    release.toml.
    """
    from operations.releases.promote import promote as run

    with _server(repository, address, offline) as control:
        _print(run(repository, release, control, bars=load_bars(settings), force=force))


@app.command()
def canary(
    release: Release,
    percent: Annotated[
        float, typer.Option(help="Share of the requests that it gets, 0.01 to 99.99; 0 ends it.")
    ] = 5.0,
    repository: Repository = REPOSITORY,
    address: Address = ADDRESS,
    offline: Offline = False,
    force: Force = False,
    settings: Bars = None,
) -> None:
    """Serve a release beside the active one, as the model recommender_canary; the gateway splits requests.

    Verified, gated and asked its golden requests as promote does. Say it again to change the percent.
    "promote" and "rollback" end it. Compare the two by their metrics: model and version are labels.
    """
    from operations.releases.canary import start_canary, stop_canary

    with _server(repository, address, offline) as control:
        if percent == 0:
            stop_canary(repository, release, control)
            print(f"release {release} is not the canary release any more")
            return
        bars = load_bars(settings)
        record = start_canary(repository, release, percent, control, bars=bars, force=force)
    _print(record, f"gets {percent:g} % of the requests")


@app.command()
def rollback(
    repository: Repository = REPOSITORY, address: Address = ADDRESS, offline: Offline = False
) -> None:
    """Return to the release that was active before; in milliseconds, since it is still loaded. No gate."""
    from operations.releases.promote import roll_back as run

    with _server(repository, address, offline) as control:
        _print(run(repository, control))


@app.command()
def retire(
    repository: Repository = REPOSITORY,
    address: Address = ADDRESS,
    offline: Offline = False,
    keep: Annotated[int, typer.Option(help="So many that were active last stay; at least 2.")] = 2,
) -> None:
    """Unload and delete releases older than the active one; never it, the one before, or a newer one."""
    from operations.releases.retire import retire as run

    with _server(repository, address, offline) as control:
        gone = run(repository, control, keep)
    print(f"retired {', '.join(map(str, gone))}" if gone else "nothing to retire")


@contextmanager
def _server(repository: Any, address: str, offline: bool) -> "Iterator[ModelControl | None]":
    """The running server, for a change of the repository; None, said on stdout, where there is none."""
    from operations.releases.model_control import ModelControl

    _published(repository)
    if offline:
        yield None
        return
    with ModelControl(address) as control:
        if control.is_there():
            yield control
            return
    print(f"no server at {address}: this changes what the next start serves")
    yield None


def _published(repository: Any) -> list[int]:
    """Its releases. Raises CestaError where there are none: it is a typing error, or too early."""
    from operations.releases.repository import releases

    found = releases(repository)
    if not found:
        raise CestaError(f'no repository in {repository}; run "cesta publish" first, or give --repository')
    return found


def _print(record: dict[str, Any], what: str = "is active") -> None:
    took = ", ".join(f"{step} {1000 * seconds:,.0f} ms" for step, seconds in record["seconds"].items())
    before = "nothing" if record["before"] is None else f"release {record['before']}"
    where = record["server"] or "the next start"
    print(f"release {record['release']} {what} at {where}, active before: {before} ({took})")
    for objection in record.get("forced", ()):
        print(f"forced although {objection}")
