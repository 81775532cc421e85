"""Shows a retraining: a Prefect server, its pages and a worker on loopback, and a run of the flow `retrain`.

python show.py FOLDER [--stay] [OPTIONS OF CESTA BUILD …]

FOLDER has receipts and a shop.toml; `make flows` writes them. --stay keeps the pages until Ctrl-C.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from local import serve

STAY: Final = "--stay"
DEPLOYMENT: Final = "retrain/weekly"


def show(folder: Path, options: Sequence[str], stay: bool) -> int:
    """Run the flow once; 0 if its run has completed."""
    out = folder.resolve()
    with serve(out / "prefect") as local:
        print(f"Prefect's pages: {local.pages}", flush=True)
        registered = local.python("register.py", CESTA_OUT=str(out / "artifacts"))
        if registered.returncode:
            return registered.returncode
        parameters = {
            "settings": str(out / "shop.toml"),
            "options": list(options),
            "release_verb": "build",  # nobody serves this release
            "release_options": ["--offline"],
        }
        with local.worker():
            run = local.prefect(
                "deployment", "run", DEPLOYMENT, "--watch", "--params", json.dumps(parameters)
            )
            if stay:
                _stay(f"{local.pages} stays until Ctrl-C")
    return run.returncode


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
