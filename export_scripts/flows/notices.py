"""Tells a chat how a flow ended: an incoming webhook of Slack, Mattermost or Rocket.Chat.

The webhook's address is a secret, so it lies in the file that CESTA_WEBHOOK_FILE names, as Alertmanager's
does. Without that file nobody is told.
"""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any, Final

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import FlowStateHook
from prefect.logging import get_logger
from prefect.settings import PREFECT_UI_URL

FILE: Final = "CESTA_WEBHOOK_FILE"
TIMEOUT_S: Final = 10.0
LONGEST: Final = 1500  # characters of a message; some chats refuse long ones


def tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send the flow's name, its state and the reason. A webhook that fails is logged, and fails nothing."""
    text = f"{flow.name} {(state.name or state.type).lower()}: {state.message or 'no message'}"[:LONGEST]
    if pages := PREFECT_UI_URL.value():
        text += f"\n{pages}/runs/flow-run/{flow_run.id}"
    path = os.environ.get(FILE)
    if path:
        try:
            _send(Path(path).read_text(encoding="utf-8").strip(), text)
        except (OSError, ValueError) as error:  # no file, no connection, refused, no URL
            reason = type(error).__name__  # its text may hold the address
            get_logger("cesta").warning("the webhook of %s was not told: %s", FILE, reason)


HOOKS: Final[list[FlowStateHook[..., Any]]] = [tell]  # of a flow, for each of its ends


def _send(url: str, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"text": text}).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass
