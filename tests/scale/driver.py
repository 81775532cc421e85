"""Has an engine of Ray compute a function of these tests, as a stage would, and prints what comes of it.

`python -m tests.scale.driver '{"function": "add", "partitions": [1, 2], "shared": …}'`
"""

import json
import sys
from pathlib import Path

from export_scripts.engines.engine import open_engine
from export_scripts.settings import load_settings
from operations.errors import CestaError
from tests.unit.engines import partitions


def main() -> None:
    call = json.loads(sys.argv[1])
    settings = load_settings(overrides={"engine.name": "ray", "engine.workers": 4} | call.get("settings", {}))
    shared = Path(call["shared"]) if call.get("shared") else None
    try:
        with open_engine(settings.engine) as engine:
            function = getattr(partitions, call["function"])
            results = list(engine.map(function, call["partitions"], shared))
    except CestaError as error:
        print(json.dumps({"sentence": str(error)}))
    else:
        print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
