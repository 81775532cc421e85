"""`cesta score`: the best items of the whole catalog for everybody, as parquet files."""

import os
import sys
from typing import Annotated

import typer

from export_scripts.commands.options import Changes, EngineName, File, stage_options, takes
from export_scripts.settings import Settings
from operations.commands.options import Out, Repository
from operations.outputs import ARTIFACTS, Outputs


def scoring_options(
    settings: File = None,
    change: Changes = None,
    engine: EngineName = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Partitions computed at once; one on each core, or engine.workers on Ray."),
    ] = None,
) -> Settings:
    """The settings of scoring, which takes all cores of this machine."""
    chosen = stage_options(settings, change, engine, workers)
    if workers is None and chosen.engine.name == "local":
        return stage_options(settings, change, engine, len(os.sched_getaffinity(0)))
    return chosen


@takes(scoring_options)
def score(
    chosen: Settings,
    out: Out = ARTIFACTS,
    to: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="A folder, s3://… or gs://…; by default OUT/scores."),
    ] = None,
    repository: Repository = None,
    release: Annotated[int | None, typer.Option(help="Its number; by default the active one.")] = None,
    users: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="csv or parquet with user_id; by default all users."),
    ] = None,
    baskets: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="csv or parquet with basket_id and item_id, and user_id if known."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items for each user or basket.")] = 20,
    compare: Annotated[
        int, typer.Option(min=0, help="Also ask so many of them as the server does, and explain differences.")
    ] = 0,
) -> None:
    """Release → the best items for each user or basket (OUT/scores).

    Of the whole catalog, as parquet files: readers see no unfinished result. A
    run that was killed goes on where it was when it is started again.
    """
    from export_scripts.score import Wanted
    from export_scripts.score import score as run
    from export_scripts.scoring.comparison import print_comparison
    from export_scripts.scoring.results import LEFT_OUT
    from operations.releases.stores.store import open_repository
    from operations.terminal import PlainConsole

    place, opened = to or str(Outputs(out).scores), open_repository(repository or Outputs(out).repository)
    manifest = run(chosen, opened, place, Wanted(k, users, baskets, compare), release)
    if manifest.comparison:
        print_comparison(manifest.comparison, PlainConsole())
    if manifest.left_out:
        told = (
            f"{manifest.left_out} of {manifest.asked} have no rows; {place.rstrip('/')}/{LEFT_OUT} tells why"
        )
        print(told, file=sys.stderr)
    print(f"{manifest.rows} rows of release {manifest.release} in {place}")
