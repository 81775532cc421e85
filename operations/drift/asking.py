"""Asks a supervisor, or a gateway in front of it, how far what is asked has drifted."""

import json
import urllib.request
from typing import Any, Final
from urllib.error import HTTPError

from operations.address import is_near, join_address, split_address
from operations.errors import CestaError

TIMEOUT_S: Final = 10.0


def ask_supervisor(address: str) -> dict[str, Any]:
    """The answer of ``GET /v1/drift``. Raises CestaError if there is none."""
    host, port = split_address(address)
    proxies = [urllib.request.ProxyHandler({})] if is_near(host) else []
    url = f"http://{join_address(host, port)}/v1/drift"
    try:
        with urllib.request.build_opener(*proxies).open(url, timeout=TIMEOUT_S) as answer:
            told: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        raise CestaError(
            f"{url}: {error.code}; is it the supervisor of a cesta that watches drift?"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CestaError(
            f"{url}: no answer ({reason}); does cesta serve run, and is this its supervisor's address?"
        ) from None
    return told
