"""`cesta drift`: is the shop still the one that the release was made of?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from operations.commands.options import Out, Repository
from operations.drift.comparison import LEAST_OBSERVED, Finding
from operations.drift.features import BY_NAME
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from export_scripts.drift.page import Daily, Summary

DRIFTED: Final = 10  # exit code; 1 is an error, as everywhere

Release = Annotated[int | None, typer.Option(help="A release's number; by default the active one.")]
Server = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="A supervisor: compare what its server was asked.")
]
Gateway = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same through a gateway, with the key in CESTA_ADMIN_KEY(_FILE)."),
]
Page = Annotated[Path | None, typer.Option(help="File of the page with plots; by default OUT/drift.html.")]


def drift(
    out: Out = ARTIFACTS,
    repository: Repository = None,
    release: Release = None,
    server: Server = None,
    gateway: Gateway = None,
    page: Page = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare new receipts or questions with those of a release.

    It compares the receipts in OUT/data that are newer than the release: run
    "cesta etl" first. With --server or --gateway it compares the questions of
    the last hour, day and week. Exit code 10 means drift: run "cesta retrain".
    0 means no drift, nothing new, or not enough to decide.
    """
    if server and gateway:
        raise CestaError("--server and --gateway name two sources; give one of them")
    target = page or Outputs(out).root / "drift.html"
    if server or gateway:
        findings = _live(server, gateway, target, as_json)
    else:
        findings = _receipts(out, repository, release, target, as_json)
    if any(finding.drifted for finding in findings):
        raise typer.Exit(DRIFTED)


def _live(server: str | None, gateway: str | None, page: Path, as_json: bool) -> list[Finding]:
    from operations.drift.asking import ask_supervisor
    from operations.gateway.remote import RemoteGateway, read_admin_key

    told = RemoteGateway(gateway, read_admin_key()).drift() if gateway else ask_supervisor(server or "")
    try:
        if told["reference"] is None:
            raise CestaError(told["reason"] or "the server has not answered yet; ask again when it is ready")
        reference = {name: str(told["reference"][name]) for name in ("first", "last")}
        windows: dict[str, Any] = told["windows"]
        findings = [Finding.of_object(one) for look in windows.values() for one in look["findings"]]
        findings = [found for found in findings if found.feature in BY_NAME]  # a newer server has more
        notes = [
            f"The window of a{'n' if name == 'hour' else ''} {name} has {look['questions']:.0f} questions"
            + ("." if look["complete"] else ", and is not compared yet.")
            for name, look in windows.items()
        ]
        release = int(told["release"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CestaError(
            f"{gateway or server} answers /v1/drift with something else than how far questions have drifted; "
            "is it a cesta, and of this version?"
        ) from None
    asked = "Questions of the last hour, day and week"
    _tell(told, findings, page, as_json, asked, release, reference, tuple(notes), None)
    return findings


def _receipts(
    out: Path, repository: str | None, release: int | None, page: Path, as_json: bool
) -> list[Finding]:
    from export_scripts.drift.receipts import compare_receipts, open_release
    from operations.releases.stores.store import open_repository

    outputs = Outputs(out)
    released = open_release(open_repository(repository or outputs.repository), release)
    found = compare_receipts(outputs.data, released)
    told = {
        "release": found.release,
        "since": found.since,
        "until": found.until,
        "days": round(found.days, 2),
        "baskets": found.baskets,
        "in_future": found.in_future,
        "unknown_sales": found.unknown_sales,
        "findings": [finding.as_object() for finding in found.findings],
    }
    notes = []
    if found.in_future:
        notes.append(
            f"Receipts in the future are left out: {found.in_future:,}. Is the clock of a till wrong?"
        )
    if found.unknown_sales is not None:
        notes.append(
            f"{found.unknown_sales:.2%} of the units sold are of items that the release never saw sold."
        )
    if not found.baskets:
        notes.append(
            f"{outputs.data} has no receipts after {found.since}, the last one of release {found.release}; "
            'add new ones and run "cesta etl"'
        )
    elif not found.findings and found.days >= 1:
        notes.append(
            f"The day up to {found.until} has too few receipts to decide; {LEAST_OBSERVED} are needed. "
            "Is the time of the last one right?"
        )
    elif not found.findings:
        notes.append(f"{found.days:.1f} days are not enough to decide; a comparison needs one.")
    reference = {"first": released.record.first, "last": released.record.last}
    asked = f"{found.baskets:,} receipts from {found.since} to {found.until}"
    _tell(told, found.findings, page, as_json, asked, found.release, reference, tuple(notes), found.daily)
    return list(found.findings)


def _tell(
    told: dict[str, Any],
    findings: "list[Finding] | tuple[Finding, ...]",
    page: Path,
    as_json: bool,
    asked: str,
    release: int,
    reference: dict[str, str],
    notes: tuple[str, ...],
    daily: "Daily | None",
) -> None:
    """Write the page, and print the findings."""
    from export_scripts.drift.page import Summary, html
    from operations.records.atomic import write_file

    summary = Summary(release, asked, f"the receipts from {reference['first']} to {reference['last']}", notes)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_file(page, html(summary, findings, daily).encode())
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    console = PlainConsole(width=130)
    if findings:
        console.print(_table(summary, list(findings)))
    for note in notes:
        console.print(note, highlight=False)
    print(_verdict(findings))
    print(page)


def _verdict(findings: "list[Finding] | tuple[Finding, ...]") -> str:
    drifted = [f"{found.feature} ({found.window})" for found in findings if found.drifted]
    if drifted:
        return f'Drift: {", ".join(drifted)}. "cesta retrain" trains on the new receipts.'
    return "No drift." if findings else "Nothing was compared."


def _table(summary: "Summary", findings: list[Finding]) -> Table:
    table = Table(title=f"{summary.asked}, compared with release {summary.release}", title_justify="left")
    for name in ("feature", "window", "distance", "95 %", "threshold", "", "what changed most"):
        table.add_column(name, justify="right" if name in ("distance", "95 %", "threshold") else "left")
    for found in findings:
        table.add_row(
            found.feature,
            found.window,
            f"{found.distance:.3f}",
            f"{found.low:.3f}-{found.high:.3f}",
            f"{found.threshold:.3f}",
            "DRIFT" if found.drifted else "",
            found.words(),
            style="bold" if found.drifted else None,
        )
    return table
