"""`cesta explain`: why an answer holds these items, and why not that one."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from operations.commands.ask import Categories, Excluded, Ids, read_ids, read_key, told_of
from operations.commands.options import Out, Repository
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from operations.gateway.items import Items

WIDTH: Final = 130
MOST: Final = 10  # items of the answer, unless --k says otherwise
TIMEOUT_S: Final = 60.0  # of a gateway, whose first explanation starts a process

Item = Annotated[
    list[str] | None,
    typer.Option("--item", help="Why is this item not in the answer, or at its place? Repeatable, or csv."),
]
Gateway = Annotated[
    str | None,
    typer.Option(help="host:port of a gateway that explains the answer of the release that it serves."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(envvar="CESTA_KEY_FILE", help="A file with a key of the role admin or explain, for it."),
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
    gateway: Gateway = None,
    key_file: KeyFile = None,
    ssl: Annotated[bool, typer.Option("--ssl", help="Encrypt the connection to it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Out = ARTIFACTS,
) -> None:
    """Answer → who proposed each item, and what its score is made of.

    It verifies a release and computes the answer from its files, or asks a
    gateway for the one that it serves. --item tells where another item was
    lost: unknown, excluded, not proposed, cut, or ranked lower.
    """
    from operations.gateway.items import read_items

    question = {
        "basket": read_ids("--basket", basket),
        "user_id": user or "",
        "exclude": read_ids("--exclude", exclude),
        "categories": category or [],
    }
    others = list(dict.fromkeys(read_ids("--item", item)))
    if gateway is None:
        told = _explain_files(str(repository or Outputs(out).repository), release, question, k, others)
    elif release is not None or repository is not None:
        raise CestaError(
            "--gateway explains the release that it serves; leave --release and --repository out"
        )
    else:
        told = _ask_gateway(gateway, key_file, ssl, question, MOST if k is None else k, others)
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print(told, read_items(Outputs(out).data))


def _explain_files(
    repository: str, release: int | None, question: dict[str, Any], k: int | None, others: list[str]
) -> dict[str, Any]:
    from ensemble.candidate_sampler.query import BadRequest
    from ensemble.explanation import report
    from ensemble.explanation.explainer import Explainer
    from ensemble.explanation.scored_graph import ExplanationError
    from export_scripts.scoring.release import open_release
    from operations.explaining.cut_graph import scored_graph
    from operations.releases.stores.store import open_repository

    with open_release(open_repository(repository), release) as files:
        first = min(MOST, files.contract.answers) if k is None else k
        if first > files.contract.answers:
            raise CestaError(
                f"--k {k}: an answer of release {files.release} has {files.contract.answers} items; "
                "--item tells about others"
            )
        explainer = Explainer(files.arrays, scored_graph(files.graph, files.contract))
        try:
            return {"release": files.release, **report.explain(explainer, question, first, others)}
        except (BadRequest, ExplanationError) as error:
            raise CestaError(str(error)) from None


def _ask_gateway(
    address: str, key_file: Path | None, ssl: bool, question: dict[str, Any], k: int, others: list[str]
) -> dict[str, Any]:
    import cesta_client

    key = read_key(key_file) if key_file else None
    try:
        with cesta_client.Recommender(address, protocol="http", api_key=key, ssl=ssl) as shop:
            return shop.explain(**question, k=k, item_ids=others, timeout_s=TIMEOUT_S)
    except cesta_client.CestaError as error:
        raise CestaError(str(error)) from None


def _print(told: dict[str, Any], items: "Items | None") -> None:
    """Print the tables, what the release did not know on stderr, and the time."""
    from operations.commands.explanation_tables import explanation_tables

    for name in told["question"]["unknown_categories"]:
        print(told_of("unknown_category", name, told["release"]), file=sys.stderr)
    console = PlainConsole(width=WIDTH)
    for shown in explanation_tables(told, items):
        console.print(shown, highlight=False)
    explained = len(told["items"]) + sum(other["explanation"] is not None for other in told["others"])
    console.print(f"{explained} explanations took {told['milliseconds']:.0f} ms of CPU", highlight=False)
