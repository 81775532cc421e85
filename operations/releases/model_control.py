"""A running Triton's model control, and questions to its models by version: all of it over gRPC.

Over HTTP a load would block one of the server's few threads, and stall its other clients for seconds.
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

from operations.errors import CestaError
from operations.records.contract import SCORER
from operations.releases.configs import NAME, Config, part_config
from operations.server.control_secret import FILE_VARIABLE, GRPC_HEADER, VARIABLE, find_secret

LOAD_TIMEOUT_S = 600  # a release of millions of items is read from disk, and its kernels are compiled
ASK_TIMEOUT_S = 20  # the first question to a version that was just loaded, on a busy machine
POLL_S = 0.02  # Triton tells nobody when it has unloaded something

# A server that is not there yet is looked for ten times a second; gRPC would wait a second at first.
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]

Tensors = Mapping[str, np.ndarray[Any, Any]]


class ModelControl:
    """One server. Raises CestaError with the server's own words when it refuses.

    ``secret`` is what the server wants from whoever loads and unloads; by default that of the environment or
    of this user's ``cesta serve``.
    """

    def __init__(self, address: str, secret: str | None = None) -> None:
        self.address = address
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
        """Let go of the connection."""
        self._client.close()

    def is_there(self, timeout_s: float = ASK_TIMEOUT_S) -> bool:
        """Does a server listen? Raises CestaError if one does and answers nothing: it may still serve."""
        try:
            return bool(self._client.is_server_live(client_timeout=timeout_s))
        except InferenceServerException as error:
            if "UNAVAILABLE" in str(error.status()):
                return False
            raise CestaError(
                f"{self.address} listens and does not answer ({error.message()}); restart the server, or say "
                "--offline to change only what its next start serves"
            ) from None

    def load(self, config: Config) -> None:
        """Have a model loaded with this config, and exactly the versions that it names.

        Versions that are loaded already are kept as they are. The config on disk is not looked at: Triton
        would pass over it unless its time of change were new.
        """
        text = json_format.MessageToJson(config, preserving_proto_field_name=True)
        self._operate("load_model", config.name, config=text, client_timeout=LOAD_TIMEOUT_S)

    def load_part(self, model: str, versions: set[int]) -> None:
        """``load`` a sampler or scorer by the checkout's config of the name that this server is run with."""
        self.load(part_config(model, versions, self.config_name()))

    def config_name(self) -> str:
        """The named config that the scorer is loaded with; "" for config.pbtxt, or if none is loaded."""
        parameters = self.config(SCORER).parameters if self.ready(SCORER) else {}
        return parameters[NAME].string_value if NAME in parameters else ""

    def unload(self, model: str) -> None:
        """Have an ensemble forgotten; its parts stay."""
        self._operate("unload_model", model, client_timeout=ASK_TIMEOUT_S)

    def states(self, model: str) -> dict[int, str]:
        """Version → READY, LOADING, UNLOADING, "" (unloaded) or what made its load fail."""
        index = self._operate("get_model_repository_index", client_timeout=ASK_TIMEOUT_S)
        found = (m for m in index.models if m.name == model and m.version)
        return {int(m.version): _state(m) for m in found}

    def ready(self, model: str) -> set[int]:
        """The versions that answer."""
        return {version for version, state in self.states(model).items() if state == "READY"}

    def wait_unloaded(self, model: str, version: int) -> None:
        """Return once nothing is left of a version. Raises CestaError after LOAD_TIMEOUT_S."""
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while self.states(model).get(version):
            if time.monotonic() > deadline:
                raise CestaError(
                    f"{model} {version} is still unloading at {self.address}; restart the server"
                )
            time.sleep(POLL_S)

    def config(self, model: str) -> Config:
        """What the server has the model loaded with."""
        return self._call("get_model_config", model, client_timeout=ASK_TIMEOUT_S).config

    def answered(self, model: str, timeout_s: float = ASK_TIMEOUT_S) -> int:
        """How many requests a model has answered, by all its versions, since the server started."""
        found = self._call("get_inference_statistics", model, client_timeout=timeout_s).model_stats
        return sum(int(version.inference_stats.success.count) for version in found)

    def ask(self, model: str, tensors: Tensors, version: int | None = None) -> tuple[int, dict[str, Any]]:
        """Version that answered, by default the ensemble's only one, and its outputs by name."""
        inputs = []
        for name, array in tensors.items():
            inputs.append(triton.InferInput(name, array.shape, _TYPES[array.dtype.kind]))
            inputs[-1].set_data_from_numpy(array)
        options = {"model_version": str(version or ""), "client_timeout": ASK_TIMEOUT_S}
        result = self._call("infer", model, inputs, **options)
        answer = result.get_response()
        return int(answer.model_version), {out.name: result.as_numpy(out.name) for out in answer.outputs}

    def _operate(self, verb: str, *values: Any, **named: Any) -> Any:
        """What only the operator may ask for."""
        try:
            return self._call(verb, *values, headers=self._secret, **named)
        except CestaError as error:
            if GRPC_HEADER not in str(error):  # Triton names the header that it misses
                raise
            what = "wrong" if self._secret else "missing"
            raise CestaError(
                f"{self.address} lets only its operator do this, and the control secret is {what}; "
                f"set {VARIABLE}, or {FILE_VARIABLE} to the file of what the server was started with"
            ) from None

    def _call(self, verb: str, *values: Any, **named: Any) -> Any:
        try:
            return getattr(self._client, verb)(*values, **named)
        except InferenceServerException as error:
            said = " ".join(str(error.message()).split("\n\nAt:")[0].split())  # without Python's traceback
            raise CestaError(f"{self.address}: {said}") from None


_TYPES = {"O": "BYTES", "i": "INT32", "f": "FP32"}


def _state(model: Any) -> str:
    if model.state != "UNAVAILABLE":
        return str(model.state)
    return "" if model.reason == "unloaded" else str(model.reason)
