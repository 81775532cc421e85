"""Shows the loop: a Prefect server, its pages and a worker on loopback, and runs of `drift` and `retrain`.

python show.py FOLDER [--stay] [OPTIONS OF CESTA BUILD …]

FOLDER has receipts and a shop.toml; `make flows` writes them. --stay keeps the pages until Ctrl-C.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from local import Local, serve

STAY: Final = "--stay"
DRIFT: Final = "drift/daily"
WEEKLY: Final = "retrain/weekly"
ON_DRIFT: Final = "retrain/on-drift"


def show(folder: Path, options: Sequence[str], stay: bool) -> int:
    """Run both flows once; 0 if both runs have completed."""
    out = folder.resolve()
    with serve(out / "prefect") as local:
        print(f"Prefect's pages: {local.pages}", flush=True)
        registered = local.python(
            "register.py", CESTA_OUT=str(out / "artifacts"), CESTA_SETTINGS=str(out / "shop.toml")
        )
        if registered.returncode:
            return registered.returncode
        for deployment in (WEEKLY, ON_DRIFT):  # "build", for nobody serves this release
            local.set_parameters(
                deployment, options=list(options), release_verb="build", release_options=["--offline"]
            )
        local.set_parameters(DRIFT, options=list(options))
        with local.worker():
            code = _run(local)
            if stay:
                _stay(f"{local.pages} stays until Ctrl-C")
    return code


def _run(local: Local) -> int:
    """Look for a drift, and retrain: by the drift's event, or else as each week."""
    began = datetime.now(UTC)
    look = local.start(DRIFT)
    if code := _watch(local, look, DRIFT):
        return code
    drifted = local.ask(f"/flow_runs/{look}", method="GET")["state_name"] == "Drifted"
    deployment = ON_DRIFT if drifted else WEEKLY
    run = local.await_run_of(ON_DRIFT, began) if drifted else local.start(WEEKLY)
    return _watch(local, run, deployment)


def _watch(local: Local, run: str, deployment: str) -> int:
    """Print the events of a run until it ends, and then why it ended so."""
    print(f"{deployment}: {local.pages}/runs/flow-run/{run}", flush=True)
    code = local.prefect("flow-run", "watch", run).returncode
    print(local.ask(f"/flow_runs/{run}", method="GET")["state"]["message"], flush=True)
    return code


def _stay(sentence: str) -> None:
    print(sentence, flush=True)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        print()


def main(arguments: Sequence[str]) -> int:
    """Read the command line."""
    if not arguments:
        print(__doc__)
        return 2
    folder, *options = arguments
    return show(Path(folder), [word for word in options if word != STAY], STAY in options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
