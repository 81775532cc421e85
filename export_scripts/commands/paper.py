"""`cesta paper`: the NCF paper's own measure."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.commands.options import Changes, File, chosen_settings


def paper(
    train: Annotated[Path, typer.Option(help="Lines of user, item, rating, time stamp; tabs; or its .gz.")],
    test: Annotated[Path, typer.Option(help="The same, one line per user.")],
    negatives: Annotated[Path, typer.Option(help="(user,item) and its negatives, in the test's order.")],
    settings: File = None,
    change: Changes = None,
) -> None:
    """The NCF paper's measure on its own files: HR@10 and NDCG@10 beside the published figures."""
    from export_scripts.paper.measure import paper as run
    from export_scripts.paper.measure import print_report

    keep_freed_memory()
    print_report(run(chosen_settings(settings, changes=change), train, test, negatives), Console(width=110))
