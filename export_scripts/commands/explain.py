"""`cesta explain`: why an answer holds these items, and why not that one."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer

from operations.commands.ask import Categories, Excluded, Ids, read_ids, told_of
from operations.commands.options import Out, Repository
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from export_scripts.explanation.report import Report
    from operations.gateway.items import Items

WIDTH: Final = 130
MOST: Final = 10  # items of the answer, unless --k says otherwise

Item = Annotated[
    list[str] | None,
    typer.Option("--item", help="Why is this item not in the answer, or at its place? Repeatable, or csv."),
]


def explain(
    basket: Ids = None,
    user: Annotated[str | None, typer.Option(help="A user id.")] = None,
    exclude: Excluded = None,
    category: Categories = None,
    item: Item = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="Items of the answer; by default 10, if it has so many.")
    ] = None,
    repository: Repository = None,
    release: Annotated[int | None, typer.Option(help="Its number; by default the active one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Out = ARTIFACTS,
) -> None:
    """Answer → who proposed each item, and what its score is made of.

    It verifies a release and computes the answer from its files. No server is
    asked. --item tells where another item was lost: unknown, excluded, not
    proposed, cut, or ranked lower.
    """
    from ensemble.candidate_sampler.query import BadRequest
    from export_scripts.explanation.explainer import Explainer
    from export_scripts.explanation.report import Report
    from export_scripts.scoring.release import open_release
    from operations.gateway.items import read_items
    from operations.releases.stores.store import open_repository

    items, excluded = read_ids("--basket", basket), read_ids("--exclude", exclude)
    others = read_ids("--item", item)
    with open_release(open_repository(repository or Outputs(out).repository), release) as files:
        first = min(MOST, files.contract.answers) if k is None else k
        if first > files.contract.answers:
            raise CestaError(
                f"--k {k}: an answer of release {files.release} has {files.contract.answers} items; "
                "--item tells about others"
            )
        explainer = Explainer(files)
        began = time.process_time()
        try:
            query = explainer.vocabulary.query(
                _bytes(items), (user or "").encode(), _bytes(excluded), _bytes(category or [])
            )
            asked = explainer.ask(query)
            answer = asked.explain_first(first)
            losses = [asked.explain_loss(one) for one in dict.fromkeys(others)]
        except BadRequest as error:
            raise CestaError(str(error)) from None
        report = Report(
            release=files.release,
            question={
                "basket": items,
                "user_id": user or "",
                "exclude": excluded,
                "categories": category or [],
                "known_user": bool(query.user_row),
                "unknown_items": query.unknown_items,
                "unknown_categories": [name.decode() for name in query.unknown_categories],
            },
            candidates=asked.size,
            proposed=int(np.count_nonzero(asked.proposed.rows)),
            answer=answer,
            losses=losses,
            milliseconds=1000 * (time.process_time() - began),
        )
    if as_json:
        print(json.dumps(report.as_object(), indent=2, ensure_ascii=False))
    else:
        _print(report, read_items(Outputs(out).data))


def _print(report: "Report", items: "Items | None") -> None:
    """Print the tables, what the release did not know on stderr, and the time."""
    for name in report.question["unknown_categories"]:
        print(told_of("unknown_category", name, report.release), file=sys.stderr)
    console = PlainConsole(width=WIDTH)
    for shown in report.tables(items):
        console.print(shown, highlight=False)
    explained = len(report.answer) + sum(loss.explanation is not None for loss in report.losses)
    console.print(f"{explained} explanations took {report.milliseconds:.0f} ms of CPU", highlight=False)


def _bytes(ids: list[str]) -> list[bytes]:
    return [one.encode() for one in ids]
