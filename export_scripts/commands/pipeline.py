"""The stages of the pipeline as verbs of `cesta`, and `build`, which runs all of them."""

from pathlib import Path
from typing import Annotated

import typer

from export_scripts.commands.memory import keep_freed_memory, return_freed_memory
from export_scripts.commands.options import Until, receipts_options, stage_options, takes
from export_scripts.settings import Settings
from operations.commands.install import prepare
from operations.commands.options import ADDRESS, Address, Force, Offline, Out, Repository
from operations.errors import NotActive
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole


@takes(receipts_options)
def etl(chosen: Settings, out: Out = ARTIFACTS) -> None:
    """Receipts and products → interactions and catalog (OUT/data)."""
    from export_scripts.etl import etl as run

    return_freed_memory()
    print(run(chosen, out))


@takes(stage_options)
def train(
    chosen: Settings,
    out: Out = ARTIFACTS,
    warm_from: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="Go on from the tower of this earlier checkpoint; default: the one in OUT, if "
            "retrieval.warm_starts allows it.",
        ),
    ] = None,
) -> None:
    """Interactions → checkpoint (OUT/checkpoint.pt)."""
    from export_scripts.train import train as run

    keep_freed_memory()
    outputs = Outputs(out)
    print(run(chosen, outputs.data, outputs.checkpoint, warm_from))


@takes(stage_options)
def evaluate(
    chosen: Settings,
    out: Out = ARTIFACTS,
    rivals: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also measure other libraries' models, by one process: ten minutes and 4 GB for the demo.",
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Ask its active release the same newest questions, for the gate; cesta build does.",
        ),
    ] = None,
) -> None:
    """Checkpoint → metrics on the test period (OUT/metrics.json).

    It measures simple rankers, too, and writes a report (OUT/report.html).
    """
    from export_scripts.evaluate import evaluate as run
    from export_scripts.quality.report import NAME, print_report
    from operations.releases.stores.store import open_repository

    keep_freed_memory()
    outputs = Outputs(out)
    active = open_repository(against) if against else None
    metrics = run(chosen, outputs.data, outputs.checkpoint, outputs.metrics, rivals, against=active)
    print_report(metrics, PlainConsole())
    print(metrics.with_name(NAME))


@takes(stage_options)
def export(
    chosen: Settings,
    out: Out = ARTIFACTS,
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
    outputs = Outputs(out)
    print(run(chosen, outputs.data, outputs.checkpoint, outputs.metrics, outputs.run, tensorrt))


@takes(receipts_options)
def build(
    chosen: Settings,
    out: Out = ARTIFACTS,
    repository: Repository = None,
    until: Until = None,
    promote: Annotated[bool, typer.Option(help="Have the release served if the gate agrees.")] = True,
    address: Address = ADDRESS,
    offline: Offline = False,
    force: Force = False,
) -> None:
    """Run all five stages, except those that are fresh; then promote.

    A running server switches to the release. Without one, the next start serves
    it. Exit code 3 says that the release is published, but could not be
    promoted: the sentence names the objections of the gate, or the failed step.
    """
    from export_scripts.build import Promotion, stages
    from export_scripts.build import build as run
    from export_scripts.quality.report import print_report
    from operations.releases.stores.store import open_repository

    keep_freed_memory()
    target = open_repository(repository or Outputs(out).repository)
    if until:
        for stage in stages(chosen, out, target):
            print(f"{stage.name} ran" if stage.run() else f"{stage.name} is fresh")
            if stage.name == until:
                return
    if promote:
        prepare()  # a release is tried before it is promoted
    promotion = Promotion(None if offline else address, force) if promote else None
    try:
        release = run(chosen, out, promotion, target)
    except NotActive:
        print_report(Outputs(out).metrics, PlainConsole())
        raise
    print_report(Outputs(out).metrics, PlainConsole())
    print(f"release {release} in {target}")
