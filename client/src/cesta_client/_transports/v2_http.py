"""Writes and reads Triton's HTTP bodies with tritonclient, for both HTTP transports."""

from __future__ import annotations

from collections.abc import Mapping

from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from .._errors import ServerError
from .._version import USER_AGENT
from .._wire import INPUTS, MODEL, OUTPUTS
from .endpoint import Endpoint
from .interface import Headers, Reply, Tensors
from .status import error_of_http


def path_of(to: Endpoint) -> str:
    return f"{to.path}/v2/models/{MODEL}/infer"


def request(
    tensors: Tensors, to: Endpoint, request_id: str, headers: Headers
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request."""
    inputs = [InferInput(name, tensor.shape, INPUTS[name]) for name, tensor in tensors.items()]
    for inp, tensor in zip(inputs, tensors.values(), strict=True):
        inp.set_data_from_numpy(tensor)
    body, json_size = InferenceServerClient.generate_request_body(inputs, request_id=request_id)
    return body, {
        "user-agent": USER_AGENT,
        **to.headers,
        **headers,
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(json_size),
    }


def reply(status: int, headers: Mapping[str, str], body: bytes, to: Endpoint) -> Reply:
    """The tensors of an answer. A missing tensor is None here; its reader raises the error.

    Raises:
        CestaError: the server refused, or its answer cannot be read.
    """
    if status != 200:
        raise error_of_http(status, headers, body, to.address)
    length = headers.get("inference-header-content-length")
    try:
        result = InferenceServerClient.parse_response_body(
            body, header_length=int(length) if length else None
        )
        tensors = {name: result.as_numpy(name) for name in OUTPUTS}
        return Reply(tensors, result.get_response()["model_version"])
    except (InferenceServerException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServerError(f"the answer of {to.address} cannot be read: {error!r}") from error
