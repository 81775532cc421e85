"""Print the result of ``cesta paper``: the measures beside published figures, and what the hold-out chose."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from export_scripts.paper.measure import POPULARITY, Report, Row
from export_scripts.paper.models import PRETRAINED
from export_scripts.paper.search import FittedModel

ML_1M = (994_169, 6_040, 3_706)  # training ratings, users, items
PUBLISHED = {  # HR@10 and NDCG@10 on ML-1M
    POPULARITY: ("0.453", "0.254"),
    PRETRAINED: ("0.730", "0.447"),  # the paper's own
    "NeuMF, tried independently": ("0.709", "0.435"),
    "matrix factorisation, tuned": ("0.7294", "0.4523"),  # Rendle et al. 2020
    "iALS": ("0.731", "0.452"),
    "EASE": ("0.719", "0.449"),
    "item-kNN": ("0.669", "0.398"),
}


def print_report(report: Report, console: Console) -> None:
    """Print both tables, and below them the notes that a comparison needs."""
    console.print(_measures(report))
    console.print(_choices(report))
    for note in _notes(report):
        console.print(note, soft_wrap=True)


def _measures(report: Report) -> Table:
    protocol = report.protocol
    title = f"{len(protocol.users):,} ratings, {protocol.n_users - 1:,} users, {protocol.n_items - 1:,} items"
    table = Table(title=f"{title}; the test item among {protocol.negatives.shape[1]} negatives")
    table.add_column("model")
    for column in ("HR@10", "NDCG@10", "hold-out", "epoch", "seconds", "ML-1M HR", "NDCG"):
        table.add_column(column, justify="right")
    for row in report.rows:
        table.add_row(
            row.name, f"{row.hr:.4f}", f"{row.ndcg:.4f}", *_training_cells(row), *PUBLISHED.get(row.name, ())
        )
    table.add_section()
    trained = {row.name for row in report.rows}
    for name, figures in PUBLISHED.items():
        if name not in trained:
            table.add_row(name, *[""] * 5, *figures)
    return table


def _training_cells(row: Row) -> tuple[str, str, str]:
    if row.fitted is None:
        return "", "", ""
    fitted = row.fitted
    epochs = f"{fitted.epoch}/{fitted.epochs}{' cut' if fitted.cut else ''}"
    return f"{fitted.validation[1]:.4f}", epochs, f"{fitted.seconds:.0f}"


def _choices(report: Report) -> Table:
    table = Table(title="chosen on the hold-out")
    table.add_column("model")
    for column in (
        "tried",
        "rate",
        "falls to",
        "negatives",
        "GMF",
        "its L2",
        "MLP",
        "its L2",
        "alpha",
        "whole",
    ):
        table.add_column(column, justify="right")
    for row in report.rows:
        if row.fitted:
            table.add_row(row.name, *_choice_cells(row.fitted))
    return table


def _choice_cells(fitted: FittedModel) -> tuple[str, ...]:
    choice = fitted.choice
    return (
        str(fitted.candidates),
        f"{choice.rate:.2g}",
        f"{fitted.rates[-1]:.2g}" if fitted.rates else "",
        str(choice.negatives),
        *((str(choice.gmf), f"{choice.gmf_l2:.2g}") if choice.gmf else ("", "")),
        *((str(choice.mlp), f"{choice.mlp_l2:.2g}") if choice.mlp else ("", "")),
        "" if choice.alpha is None else f"{choice.alpha:g}",
        "yes" if fitted.whole else "no",
    )


def _notes(report: Report) -> Iterator[str]:
    protocol = report.protocol
    if (len(protocol.users), protocol.n_users - 1, protocol.n_items - 1) == ML_1M:
        yield "The last two columns are figures published on ML-1M."
    else:
        yield "The last two columns are figures published on ML-1M, not on these files. Do not compare them."
    yield (
        "hold-out: NDCG@10 on each user's last training item. It chose all settings; the test chose nothing. "
        "epoch: the best one, of those trained with all candidates."
    )
    yield "whole: the model was trained anew on the whole training file, with the chosen rates and epochs."
    cut = [row.name for row in report.rows if row.fitted and row.fitted.cut]
    if cut:
        yield f"The time limit paper.minutes = {report.minutes:g} cut these short: {'; '.join(cut)}."
    if protocol.own_negatives:
        yield (
            f"{protocol.own_negatives} test items stand among their own negatives. Each is ranked once, as by"
            " the published code."
        )
    if protocol.repeats:
        yield f"{protocol.repeats} test items are also in the training file, for the same user."
