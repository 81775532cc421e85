"""The stages of the pipeline as verbs of `cesta`, and `build`, which runs all of them."""

from typing import Annotated

import typer
from rich.console import Console

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.commands.options import Changes, File, Products, Transactions, chosen_settings
from operations.commands.options import Out, Repository
from operations.outputs import ARTIFACTS, Outputs


def etl(
    out: Out = ARTIFACTS,
    settings: File = None,
    transactions: Transactions = None,
    products: Products = None,
    change: Changes = None,
) -> None:
    """Receipts and products → interactions and catalog (OUT/data)."""
    from export_scripts.etl import etl as run

    keep_freed_memory()
    print(run(chosen_settings(settings, transactions, products, change), out))


def train(out: Out = ARTIFACTS, settings: File = None, change: Changes = None) -> None:
    """Interactions → checkpoint (OUT/checkpoint.pt)."""
    from export_scripts.train import train as run

    keep_freed_memory()
    outputs, chosen = Outputs(out), chosen_settings(settings, changes=change)
    print(run(chosen, outputs.data, outputs.checkpoint))


def evaluate(
    out: Out = ARTIFACTS,
    settings: File = None,
    change: Changes = None,
    rivals: Annotated[
        bool,
        typer.Option(
            "--all", help="Also measure other libraries' models: ten minutes and 4 GB for the demo's data."
        ),
    ] = False,
) -> None:
    """Checkpoint → metrics on the test period (OUT/metrics.json).

    It measures simple rankers, too, and writes a report (OUT/report.html).
    """
    from export_scripts.evaluate import evaluate as run
    from export_scripts.quality.report import NAME, print_report

    keep_freed_memory()
    outputs, chosen = Outputs(out), chosen_settings(settings, changes=change)
    metrics = run(chosen, outputs.data, outputs.checkpoint, outputs.metrics, rivals)
    print_report(metrics, Console(width=110))
    print(metrics.with_name(NAME))


def export(
    out: Out = ARTIFACTS,
    settings: File = None,
    change: Changes = None,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt", help="Also run the graph in TensorRT and compare it with the CPU; needs a GPU."
        ),
    ] = False,
) -> None:
    """Checkpoint → run: ONNX graph, arrays and manifest (OUT/run)."""
    from export_scripts.export import export as run

    keep_freed_memory()
    outputs, chosen = Outputs(out), chosen_settings(settings, changes=change)
    print(run(chosen, outputs.data, outputs.checkpoint, outputs.metrics, outputs.run, tensorrt))


def build(
    out: Out = ARTIFACTS,
    settings: File = None,
    transactions: Transactions = None,
    products: Products = None,
    change: Changes = None,
    repository: Repository = None,
    promote: Annotated[bool, typer.Option(help="Let the next start of a server serve the release.")] = True,
) -> None:
    """Run all five stages, except those whose inputs did not change.

    A running server keeps its release.
    """
    from export_scripts.build import build as run
    from export_scripts.quality.report import print_report
    from operations.releases.store import open_repository

    keep_freed_memory()
    target = open_repository(repository or Outputs(out).repository)
    release = run(chosen_settings(settings, transactions, products, change), out, promote, target)
    print_report(Outputs(out).metrics, Console(width=110))
    print(f"release {release} in {target}")
