"""Loads, unloads and asks the models of a running Triton by version, over gRPC.

Over HTTP a load would block one of the server's few threads and stall other clients for seconds.
"""

import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import tritonclient.grpc as triton
from google.protobuf import json_format
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from operations.address import split_address
from operations.errors import CestaError
from operations.records.contract import SCORER, Config, kind_of
from operations.releases.models.configs import NAME
from operations.server.control_secret import FILE_VARIABLE, GRPC_HEADER, VARIABLE, find_secret

READY: Final = "READY"  # a version's state, in Triton's words
UNLOADING: Final = "UNLOADING"
UNLOADED: Final = ""

LOAD_TIMEOUT_S: Final = 600  # a release of millions of items is read from disk, and its kernels are compiled
UNLOAD_TIMEOUT_S: Final = 30  # after the last requests; that of a model whose process died may never end
ASK_TIMEOUT_S: Final = 20  # for what a server answers without a model
# A deadline that passes cancels its inference, and that can end a Triton 2.51 that still works. A server that
# takes longer than this hangs.
INFER_TIMEOUT_S: Final = 60
POLL_S: Final = 0.02  # Triton does not report the end of an unload
CONNECT_S: Final = 5  # a machine that says nothing for so long is off, or behind a firewall
REFUSING_S: Final = 2  # how long a server that accepts connections may still refuse calls: it starts, or ends

_CHANNEL = [
    # A server that does not listen yet is tried ten times a second; gRPC would wait a second at first.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Model control stays on this machine or its private network, where a company's proxy does not lead.
    ("grpc.enable_http_proxy", 0),
]

Tensors = Mapping[str, NDArray[Any]]  # of several types: bytes, float32, int32


class ModelControl:
    """A connection to one server. Raises CestaError with the server's own words when it refuses.

    ``secret`` authorises loads and unloads. The default is that of the environment or of this user's
    ``cesta serve``. ``load_timeout_s`` limits each load, ``infer_timeout_s`` each question.
    """

    def __init__(
        self,
        address: str,
        secret: str | None = None,
        *,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        infer_timeout_s: float = INFER_TIMEOUT_S,
    ) -> None:
        self.address = address
        self._load_timeout_s, self._infer_timeout_s = load_timeout_s, infer_timeout_s
        secret = find_secret() if secret is None else secret
        self._secret = {GRPC_HEADER: secret} if secret else {}
        self._client = triton.InferenceServerClient(address, channel_args=_CHANNEL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def is_there(self, timeout_s: float = ASK_TIMEOUT_S) -> bool:
        """Does a server listen? Only a refused connection says that none does.

        Raises CestaError if nothing can be known, or if a program listens and does not answer: it may still
        serve.
        """
        deadline = time.monotonic() + min(timeout_s, REFUSING_S)
        while self._accepts(min(timeout_s, CONNECT_S)):
            try:
                return bool(self._client.is_server_live(client_timeout=timeout_s))
            except InferenceServerException as error:
                if "UNAVAILABLE" not in str(error.status()) or time.monotonic() > deadline:
                    raise CestaError(
                        f"{self.address} listens and does not answer as Triton's gRPC ({error.message()}); "
                        "restart the server, name its gRPC port, or say --offline to change only what its "
                        "next start serves"
                    ) from None
            time.sleep(POLL_S)
        return False

    def _accepts(self, timeout_s: float) -> bool:
        """Tell whether a program accepts connections; False only if this machine or another refuses them."""
        try:
            with socket.create_connection(split_address(self.address), timeout_s):
                return True
        except ConnectionRefusedError:
            return False
        except OSError as error:
            raise CestaError(
                f"{self.address} cannot be reached ({error.strerror or error}); correct the address, or "
                "say --offline to change only what the next start serves"
            ) from None

    def load(self, config: Config) -> None:
        """Load a model with this config, and exactly the versions that it names.

        Loaded versions stay as they are. The config on disk is not used: Triton ignores it unless its
        modification time is new.
        """
        text = json_format.MessageToJson(config, preserving_proto_field_name=True)
        self._operate("load_model", config.name, config=text, client_timeout=self._load_timeout_s)

    def set_versions(self, model: str, versions: set[int]) -> None:
        """Have exactly these versions of a loaded part stay loaded, with the config that it has."""
        if versions:
            config = self.config(model)
            config.version_policy.specific.versions[:] = sorted(versions)
            self.load(config)
        else:
            self.unload(model)

    def config_name(self) -> str:
        """The name of the scorers' loaded config; "" for config.pbtxt, or if no scorer is loaded."""
        for model in self.ready_parts():
            parameters = self.config(model).parameters
            if kind_of(model) == SCORER and NAME in parameters:
                return str(parameters[NAME].string_value)
        return ""

    def unload(self, model: str) -> None:
        """Unload a model; the parts of an ensemble stay loaded."""
        self._operate("unload_model", model, client_timeout=ASK_TIMEOUT_S)

    def states(self, model: str) -> dict[int, str]:
        """Version → READY, LOADING, UNLOADING, UNLOADED or the reason for which its load failed."""
        index = self._operate("get_model_repository_index", client_timeout=ASK_TIMEOUT_S)
        versions = (m for m in index.models if m.name == model and m.version)
        return {int(version.version): _state(version) for version in versions}

    def ready(self, model: str) -> set[int]:
        """The versions that answer."""
        return {version for version, state in self.states(model).items() if state == READY}

    def ready_parts(self) -> dict[str, set[int]]:
        """The versions that answer, by each model that holds samplers or scorers and has such versions."""
        index = self._operate("get_model_repository_index", client_timeout=ASK_TIMEOUT_S)
        ready: dict[str, set[int]] = {}
        for row in index.models:
            if kind_of(row.name) and row.version and _state(row) == READY:
                ready.setdefault(row.name, set()).add(int(row.version))
        return ready

    def folders(self) -> set[str]:
        """The names of all folders that the server's repository has, those of models and others."""
        index = self._operate("get_model_repository_index", client_timeout=ASK_TIMEOUT_S)
        return {str(row.name) for row in index.models}

    def wait_unloaded(self, model: str, version: int) -> None:
        """Wait until a version is unloaded, or failed to. Raises CestaError after UNLOAD_TIMEOUT_S."""
        deadline = time.monotonic() + UNLOAD_TIMEOUT_S
        while self.states(model).get(version, UNLOADED) in (READY, UNLOADING):
            if time.monotonic() > deadline:
                raise CestaError(
                    f"{model} {version} is still unloading at {self.address}; restart the server"
                )
            time.sleep(POLL_S)

    def config(self, model: str) -> Config:
        """The config that the server has loaded the model with."""
        return self._call("get_model_config", model, client_timeout=ASK_TIMEOUT_S).config

    def answered(self, kind: str, timeout_s: float = ASK_TIMEOUT_S) -> int:
        """The requests that all samplers, or all scorers, have answered since the server started."""
        rows = self._call("get_inference_statistics", client_timeout=timeout_s).model_stats
        return sum(int(row.inference_stats.success.count) for row in rows if kind_of(row.name) == kind)

    def ask(
        self, model: str, tensors: Tensors, version: int | None = None
    ) -> tuple[int, dict[str, NDArray[Any]]]:  # as ``Tensors``
        """Ask a version, by default the ensemble's only one. Returns the version and its outputs by name."""
        inputs = []
        for name, array in tensors.items():
            inputs.append(triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
            inputs[-1].set_data_from_numpy(array)
        options = {"model_version": str(version or ""), "client_timeout": self._infer_timeout_s}
        result = self._call("infer", model, inputs, **options)
        answer = result.get_response()
        return int(answer.model_version), {out.name: result.as_numpy(out.name) for out in answer.outputs}

    def _operate(self, verb: str, *values: Any, **named: Any) -> Any:  # as ``_call``
        """Call a method that only the operator may."""
        try:
            return self._call(verb, *values, headers=self._secret, **named)
        except CestaError as error:
            if GRPC_HEADER not in str(error):  # Triton names the header that is missing or wrong
                raise
            problem = "wrong" if self._secret else "missing"
            raise CestaError(
                f"{self.address} lets only its operator do this, and the control secret is {problem}; "
                f"set {VARIABLE}, or set {FILE_VARIABLE} to the secret file that the server was started with"
            ) from None

    def _call(self, verb: str, *values: Any, **named: Any) -> Any:  # tritonclient has no types
        try:
            return getattr(self._client, verb)(*values, **named)
        except InferenceServerException as error:
            message = str(error.message()).split("\n\nAt:")[0]  # without Python's traceback
            raise CestaError(f"{self.address}: {' '.join(message.split())}") from None


def _state(version: Any) -> str:  # a row of Triton's index; tritonclient has no types
    if version.state != "UNAVAILABLE":
        return str(version.state)
    return UNLOADED if version.reason == "unloaded" else str(version.reason)
