"""Registers the flows with a Prefect server: pool, queues, deployments, what follows the loss of a worker.

Run it again after a change. PREFECT_API_URL names the server, CESTA_OUT the folder of the build,
CESTA_SETTINGS the shop's toml, if it has one:

    CESTA_OUT=/srv/shop/artifacts CESTA_SETTINGS=/srv/shop/shop.toml python register.py
"""

import asyncio
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from prefect.automations import Automation, ChangeFlowRunState, EventTrigger, Posture
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

HERE: Final = Path(__file__).resolve().parent
POOL: Final = "cesta"
QUEUE: Final = "retrain"
BEAT: Final = "prefect.flow-run.heartbeat"
# An event has the state's name, also one that a flow has chosen. A run that ends otherwise would run again.
STATES: Final = ("Completed", "Drifted", "Failed", "Refused", "GaveUp", "TimedOut", "Cancelled", "Crashed")
ENDS: Final = {f"prefect.flow-run.{state}" for state in STATES}
SILENCE: Final = timedelta(seconds=90)  # three beats


def automation() -> Automation:
    """What the server does when a worker is lost: a run without a sign of life is scheduled again."""
    silent = EventTrigger(
        after={BEAT},
        expect={BEAT, *ENDS},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    again = ChangeFlowRunState(
        state=StateType.SCHEDULED,
        name="AwaitingRetry",
        force=False,
        message=f"no heartbeat for {SILENCE.seconds} s: the worker is lost, another one goes on",
    )
    return Automation(name="cesta: a silent run goes on", trigger=silent, actions=[again])


async def register() -> None:
    """Create or change everything but the deployments."""
    template = ProcessWorker.get_default_base_job_template()
    async with get_client() as client:
        pool = WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template)
        await client.create_work_pool(pool, overwrite=True)
        try:
            queue = await client.read_work_queue_by_name(QUEUE, work_pool_name=POOL)
            await client.update_work_queue(queue.id, concurrency_limit=1)
        except ObjectNotFound:
            await client.create_work_queue(QUEUE, work_pool_name=POOL, concurrency_limit=1)
        goes_on = automation()
        for earlier in await client.read_automations_by_name(goes_on.name):
            await client.delete_automation(earlier.id)
        await goes_on.acreate()


def deploy(out: str, settings: str | None) -> None:
    """Create or change the deployments of prefect.yaml, for the build in ``out``, and print their names."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    chosen = {
        "CESTA_OUT": str(Path(out).absolute()),
        "CESTA_SETTINGS": str(Path(settings).absolute()) if settings else "",
    }
    done = subprocess.run(
        command, cwd=HERE, env=os.environ | chosen, capture_output=True, text=True, check=False
    )
    names = re.findall(r"Deployment '([^']+)'", done.stdout)
    if done.returncode or not names:
        sys.exit(f"{done.stdout}{done.stderr}\nprefect deploy ended with {done.returncode}")
    print("registered:", ", ".join(names), flush=True)


if __name__ == "__main__":
    chosen_out = os.environ.get("CESTA_OUT")
    if not chosen_out:
        sys.exit("set CESTA_OUT to the folder of the build, such as /srv/shop/artifacts")
    asyncio.run(register())
    deploy(chosen_out, os.environ.get("CESTA_SETTINGS"))
