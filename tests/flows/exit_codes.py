"""Runs one verb as the flows do, without waits between its tries; Prefect's environment runs this file.

python exit_codes.py FLOWS [LIMIT_S COMMAND]…: the folder of the flows, then the time limit of a try and a
command in the place of `cesta`, as often as you like. Prints the state of each command's task.
"""

import asyncio
import os
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

from prefect import flow
from stages import run_verb


@flow
async def each(limits_s: list[str], commands: list[str]) -> Any:
    for limit_s, command in zip(limits_s, commands, strict=True):
        os.environ["CESTA_COMMAND"] = command
        verb = run_verb.with_options(retry_delay_seconds=0, timeout_seconds=float(limit_s))
        state = await verb(["retrain"], answers=(0, 4), refusals=(3,), return_state=True)
        print("STATE", state.name)


asyncio.run(each(sys.argv[2::2], sys.argv[3::2]))
