"""`cesta paper`: the measure of the NCF paper (neural collaborative filtering, He et al. 2017)."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.commands.options import Changes, File, chosen_settings


def paper(
    train: Annotated[
        Path, typer.Option(help="Lines of user, item, rating and time stamp, separated by tabs; may be .gz.")
    ],
    test: Annotated[Path, typer.Option(help="The same format, one line per user.")],
    negatives: Annotated[
        Path, typer.Option(help="(user,item) and its negatives, in the order of the test file.")
    ],
    settings: File = None,
    change: Changes = None,
) -> None:
    """Repeat the NCF paper's measure on its own files.

    Settings are chosen on a hold-out of the training file within paper.minutes. The tables show HR@10 and
    NDCG@10 beside the published figures, and what was chosen.
    """
    from export_scripts.paper.measure import paper as run
    from export_scripts.paper.table import print_report

    keep_freed_memory()
    print_report(run(chosen_settings(settings, changes=change), train, test, negatives), Console(width=110))
