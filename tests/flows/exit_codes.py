"""Runs one verb as the flows do, without waits between its tries; Prefect's environment runs this file.

python exit_codes.py FLOWS LIMIT_S: the folder of the flows, and the time limit of a try.
"""

import asyncio
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

from prefect import flow
from stages import run_verb


@flow
async def once() -> Any:
    verb = run_verb.with_options(retry_delay_seconds=0, timeout_seconds=float(sys.argv[2]))
    state = await verb(["retrain"], answers=(0, 4), refusals=(3,), return_state=True)
    print("STATE", state.name)


asyncio.run(once())
