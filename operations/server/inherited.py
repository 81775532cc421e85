"""The variables of this process that tritonserver and its models inherit.

A release's code runs in the models, so secrets that it does not need stay out. What leads loaders and
requests elsewhere stays out of the embedded server, which brings its libraries. Standard library only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from operations.address import host_of, is_near

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"  # else ONNX Runtime tells its makers about each process and model
_OPERATORS = ("CESTA_CONTROL_",)
_STORES = ("AWS_", "AZURE_STORAGE_", "GOOGLE_")
_LOADERS = ("LD_", "PYTHON")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_OWN_MACHINE = ("localhost", "127.0.0.1", "::1")


def inherited_variables(
    repository: Path | str, *, is_embedded: bool, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables for a server on a repository, whose store's credentials it gets.

    An installation keeps the LD_ variables: images set them for its libraries.
    """
    stores = () if "://" in str(repository) else _STORES
    unwanted = (*_OPERATORS, *stores, *(_LOADERS if is_embedded else ()))
    kept = {name: value for name, value in environment.items() if not name.startswith(unwanted)}
    return {TELEMETRY_OFF: "1"} | kept | _proxy_exceptions(kept)


def _proxy_exceptions(variables: Mapping[str, str]) -> dict[str, str]:
    """Except this machine and a near store from a proxy, which Triton's libraries would ask for them."""
    if not any(name.lower() in _PROXIES and value for name, value in variables.items()):
        return {}
    endpoint = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or ""
    store = host_of(endpoint) or "localhost"
    near = dict.fromkeys((*_OWN_MACHINE, socket.gethostname(), *([store] if is_near(store) else ())))
    hosts = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if hosts.strip() == "*":
        return {}
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(filter(None, [hosts, *near])))
