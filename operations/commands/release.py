"""`cesta release`: the runbook of a repository's releases."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from operations.commands.options import Out
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.releases.stores.store import Repository, open_repository
from operations.settings import load_bars
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from operations.gateway.remote import RemoteGateway
    from operations.releases.history import Record
    from operations.releases.model_control import ModelControl

REPOSITORY = str(Outputs(ARTIFACTS).repository)
ADDRESS = "127.0.0.1:8001"

app = typer.Typer(no_args_is_help=True, add_completion=False)

Place = Annotated[
    str,
    typer.Option(
        "--repository", envvar="CESTA_REPOSITORY", help="A published repository: a folder, s3://… or gs://…"
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="CESTA_ADDRESS",
        help="host:port of the server's gRPC, as cesta serve prints it.",
        show_default=ADDRESS,
    ),
]
Gateway = Annotated[
    str | None,
    typer.Option(
        help="https://… of a gateway: change the server behind it, with the key in CESTA_ADMIN_KEY(_FILE)."
    ),
]
Offline = Annotated[bool, typer.Option(help="Change only what the next start serves.")]
Release = Annotated[int, typer.Argument(help="A release's number.")]
Force = Annotated[bool, typer.Option(help="Pass the gate despite its objections, which are recorded.")]
Expected = Annotated[
    int | None,
    typer.Option(help="Do nothing unless this release is the active one: for scripts and pipelines."),
]
Bars = Annotated[Path | None, typer.Option(help="A toml with your own bars in its release table.")]


@app.callback()
def release() -> None:
    """Releases: list them, promote one, roll back, retire old ones.

    \b
    The usual day:
      cesta release list           all releases, and which one is active
      cesta release verify 7       is every file as its publisher signed it?
      cesta release diff 6 7       what changes: data, settings, metrics
      cesta release canary 7       give it a share of the requests first
      cesta release promote 7      serve it
      cesta release rollback       return to the previous one, in milliseconds
      cesta release retire         delete old ones
      cesta release index          write them into one file, for other programs

    \b
    A running server switches without a failed request. Without one, the next
    "cesta serve" starts with the promoted release. A failed change is undone:
    the error names the step and the reason, and the old release answers all the
    while. promotions.jsonl of the repository records who did what.
    """


@app.command("list")
def list_(
    repository: Place = REPOSITORY,
    gateway: Gateway = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """All releases: age, data, HR@10 (hit rate), comparison with the active one; and who plays which part."""
    from operations.releases.overview.listing import list_releases, marks

    listing = _remote(gateway).releases() if gateway else list_releases(_open(repository))
    if as_json:
        print(json.dumps(listing, indent=2, ensure_ascii=False))
        return
    if listing["damaged"]:
        print(f"nobody can tell which release is active: {listing['damaged']}", file=sys.stderr)
    parts, table = marks(listing), Table()
    for column in ("release", "created (UTC)", "data until", "HR@10", "against (NDCG@10)", ""):
        table.add_column(column)
    for row in listing["releases"]:
        number, hit_rate = row["release"], row.get("hr_at_10")
        created_at = "damaged" if "damaged" in row else (row.get("created_at") or "")[:16].replace("T", " ")
        measured = "not measured" if hit_rate is None else f"{hit_rate:.4f}"
        cells = (created_at, row.get("data_until") or "", "" if "damaged" in row else measured)
        table.add_row(str(number), *cells, row.get("against") or "", parts.get(number, ""))
    PlainConsole().print(table)


@app.command()
def index(repository: Place = REPOSITORY) -> None:
    """Write model_manifest.json at the repository's top: all releases in one file, for other programs."""
    from operations.releases.overview.index import NAME, write_index

    opened = _open(repository)
    written = write_index(opened)
    print(f"{opened}/{NAME}: {len(written['releases'])} releases, active: {written['active'] or 'none'}")


@app.command("export-mlflow")
def export_mlflow(
    server: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="https://… of an MLflow server.")],
    model: Annotated[
        str, typer.Option(help="Name of the registered model, and of the experiment.")
    ] = "cesta",
    out: Out = ARTIFACTS,
    repository: Place = REPOSITORY,
) -> None:
    """Copy all releases' records to MLflow; the alias champion is the active one, challenger the canary.

    Parameters, metrics and the manifest; also the report, if OUT/report.html shows the release's metrics.
    """
    from operations.releases.overview.mlflow_export import export_releases, read_report

    exported = export_releases(_open(repository), server, model, read_report(out))
    added = ", ".join(map(str, exported.added)) or "none"
    print(f"{model} at {server} has {len(exported.versions)} releases; added: {added}")


@app.command()
def show(release: Release, repository: Place = REPOSITORY) -> None:
    """A release's manifest without files and golden requests, and its history; as JSON."""
    from operations.releases.history import read
    from operations.releases.repository import read_release

    opened = _open(repository)
    manifest = read_release(opened, release).json_object()
    shown: dict[str, object] = {
        name: value for name, value in manifest.items() if name not in ("files", "golden")
    }
    shown["history"] = [record for record in read(opened) if record["release"] == release]
    print(json.dumps(shown, indent=2, ensure_ascii=False))


@app.command()
def verify(release: Release, repository: Place = REPOSITORY) -> None:
    """Check the signature, every file's hash and the graph's contract; names what is not as published."""
    from operations.releases.signatures.verify import verify_release

    files = verify_release(_open(repository), release).files
    size = sum(file.bytes for file in files.values())
    print(f"release {release} is whole: {len(files)} files, {size / 1e6:.1f} MB")


@app.command()
def diff(
    one: Release,
    other: Annotated[int, typer.Argument(help="Another release's number.")],
    repository: Place = REPOSITORY,
) -> None:
    """Differences of two releases: data, settings, metrics with their intervals, code, files."""
    from operations.releases.overview.diff import diff as run
    from operations.releases.repository import read_release

    opened = _open(repository)
    table = Table(Column(no_wrap=True), f"release {one}", f"release {other}")
    for row in run(read_release(opened, one), read_release(opened, other)):
        table.add_row(*row)
    PlainConsole(width=130).print(table)


@app.command()
def promote(
    release: Release,
    repository: Place = REPOSITORY,
    address: Address = None,
    offline: Offline = False,
    force: Force = False,
    expected_release: Expected = None,
    settings: Bars = None,
    gateway: Gateway = None,
) -> None:
    """Have a release served. Verifies it, tries it in a second server, switches, asks it, records it.

    The gate refuses a release that finds less than the active one on the same newest questions, one
    below the bars of release.toml, one whose receipts look broken, and one that lacks categories.
    """
    from operations.releases.promote import promote as run

    if gateway:
        _print(_remote(gateway, offline, settings).promote(release, force, expected_release))
        return
    opened = _open(repository)
    with _server(opened, address, offline) as control:
        bars = load_bars(settings)
        _print(run(opened, release, control, bars=bars, force=force, expected=expected_release))


@app.command()
def canary(
    release: Release,
    percent: Annotated[
        float, typer.Option(help="Its share of the requests, 0.01 to 99.99; 0 ends it.")
    ] = 5.0,
    repository: Place = REPOSITORY,
    address: Address = None,
    offline: Offline = False,
    force: Force = False,
    settings: Bars = None,
    gateway: Gateway = None,
) -> None:
    """Serve a release beside the active one, as the model recommender_canary; the gateway splits requests.

    The release passes the same checks as in promote. Repeat the command to change the percent.
    "promote" and "rollback" end it. Compare the two by their metrics: model and version are labels.
    """
    from operations.releases.canary import start_canary, stop_canary

    if gateway:
        record = _remote(gateway, offline, settings).canary(release, percent, force)
    else:
        opened, bars = _open(repository), load_bars(settings)
        with _server(opened, address, offline) as control:
            if percent == 0:
                record = stop_canary(opened, release, control)
            else:
                record = start_canary(opened, release, percent, control, bars=bars, force=force)
    if percent == 0:
        print(f"release {release} is not the canary release any more")
    else:
        _print(record, f"gets {percent:g} % of the requests")


@app.command()
def rollback(
    repository: Place = REPOSITORY,
    address: Address = None,
    offline: Offline = False,
    expected_release: Expected = None,
    gateway: Gateway = None,
) -> None:
    """Return to the previous release; in milliseconds, since it is still loaded. Without the gate."""
    from operations.releases.promote import roll_back as run

    if gateway:
        _print(_remote(gateway, offline).roll_back(expected_release))
        return
    opened = _open(repository)
    with _server(opened, address, offline) as control:
        _print(run(opened, control, expected=expected_release))


@app.command()
def retire(
    repository: Place = REPOSITORY,
    address: Address = None,
    offline: Offline = False,
    keep: Annotated[int, typer.Option(help="How many of the last active ones stay; at least 2.")] = 2,
) -> None:
    """Unload and delete releases older than the active one; never it, the previous one, or a newer one."""
    from operations.releases.retire import retire as run

    opened = _open(repository)
    with _server(opened, address, offline) as control:
        retired = run(opened, control, keep)
    print(f"retired {', '.join(map(str, retired))}" if retired else "nothing to retire")


@app.command()
def sign(release: Release, repository: Place = REPOSITORY) -> None:
    """Sign a release with your key, after a check of every file's hash: you vouch for its code.

    For releases of an older cesta, which are not signed, and of publishers whom the server does not trust.
    """
    from operations.records.manifest import ReleaseManifest
    from operations.releases.repository import manifest_place, read_release
    from operations.releases.signatures.intact import check_files
    from operations.releases.signatures.signature import sign as run
    from operations.releases.signatures.signing_key import key_id
    from operations.releases.signatures.trust import publisher_key

    opened = _open(repository)
    read_release(opened, release)
    place = manifest_place(opened, release)
    content = place.read_bytes()
    check_files(opened, release, ReleaseManifest.parse(content, place))
    key = publisher_key()
    run(opened, release, content, key)
    print(f"release {release} is signed by {key_id(key.public_key())}")


@app.command()
def keys() -> None:
    """The public line of your signing key, which is made on first use, and the ids of the trusted keys."""
    from operations.releases.signatures.signing_key import key_id, public_line
    from operations.releases.signatures.trust import find_trust, publisher_key

    key = publisher_key().public_key()
    trust = find_trust()
    print(public_line(key))
    for trusted in trust.keys:
        mark = " (yours)" if trusted == key_id(key) else ""
        print(f"{trust.path} trusts {trusted}{mark}")


@app.command()
def trust(line: Annotated[str, typer.Argument(help='A line that "cesta release keys" printed.')]) -> None:
    """Trust a publisher: servers of this user load his releases. Delete the line of the file to end it."""
    from operations.releases.signatures.trust import trust_key, trusted_keys_file

    print(f"{trusted_keys_file()} trusts {trust_key(line)}")


def _open(place: str) -> Repository:
    """Open a repository. Raises CestaError if it has no release: the name is wrong, or it is too early."""
    from operations.releases.repository import releases

    repository = open_repository(place)
    if not releases(repository):
        raise CestaError(f'no repository in {repository}; run "cesta publish" first, or give --repository')
    return repository


def _remote(gateway: str, offline: bool = False, settings: Path | None = None) -> "RemoteGateway":
    """Connect to a gateway elsewhere. Raises CestaError for options that would have no effect there."""
    if offline or settings:
        raise CestaError(
            "--gateway changes a running server, which has its own bars; leave out --offline and --settings"
        )
    from operations.gateway.remote import RemoteGateway, read_admin_key

    return RemoteGateway(gateway, read_admin_key())


@contextmanager
def _server(repository: Repository, address: str | None, offline: bool) -> "Iterator[ModelControl | None]":
    """Connect to the running server; None if ``offline``, or if none runs at ADDRESS, which is printed.

    Raises CestaError if none runs at an ``address`` that was given, since it may be mistyped, or if a server
    may serve the repository elsewhere, or is just being restarted.
    """
    from operations.releases.model_control import ModelControl
    from operations.releases.serving_mark import may_be_served

    if offline:
        yield None
        return
    with ModelControl(address or ADDRESS) as control:
        if control.is_there():
            yield control
            return
    if address:
        raise CestaError(
            f"no server listens at {address}, so nothing was changed; correct --address, or say --offline "
            "to change only what the next start serves"
        )
    if may_be_served(repository):
        raise CestaError(
            f"no server listens at {ADDRESS}, but one may serve {repository} at another address, or restart "
            "just now, so nothing was changed; try again, give --address, or say --offline to change only "
            "what its next start serves"
        )
    print(f"no server at {ADDRESS} (--address names another): this changes what the next start serves")
    yield None


def _print(record: "Record", what: str = "is active") -> None:
    took = ", ".join(f"{step} {1000 * seconds:,.0f} ms" for step, seconds in record["seconds"].items())
    before = "nothing" if record["before"] is None else f"release {record['before']}"
    where = record["server"] or "the next start"
    print(f"release {record['release']} {what} at {where}, active before: {before} ({took})")
    if untried := record.get("untried"):
        print(f"no second server tried it before it was loaded: {untried}")
    for objection in record.get("forced", ()):
        print(f"forced although {objection}")
