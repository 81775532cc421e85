"""Triton's adapter of the candidate sampler: tensors → queries → one call for the whole batch → tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .batch import Candidates
from .query import BadRequest, Query
from .sampler import CandidateSampler

INPUTS = ("basket", "user_id", "exclude", "categories")


class TritonPythonModel:
    """One instance is one process with its own sampler; the arrays are mapped, so instances share them."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self._sampler = CandidateSampler.load(folder / "arrays")
        self._vocabulary = self._sampler.vocabulary()
        self._sampler.sample([Query()])  # compiles the kernels, before the first shopper waits for it

    def execute(self, requests: list[Any]) -> list[Any]:
        """One pass over all queries of all requests; a bad request fails alone."""
        parsed = [self._parse(request) for request in requests]
        queries = [query for found in parsed if not isinstance(found, BadRequest) for query in found]
        if not queries:
            return [_refusal(found) for found in parsed]
        outputs = {
            "user_row": np.array([[q.user_row] for q in queries], np.int32),
            "basket_rows": self._sampler.basket_rows(queries),
            **_tensors(self._sampler.sample(queries)),
        }
        responses, start = [], 0
        for found in parsed:
            if isinstance(found, BadRequest):
                responses.append(_refusal(found))
                continue
            part = slice(start, start := start + len(found))
            responses.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor(name, array[part]) for name, array in outputs.items()]
                )
            )
        return responses

    def _parse(self, request: Any) -> list[Query] | BadRequest:
        """One query per row of the request's batch, or what is wrong with it."""
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
        arrays = {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}
        for name, array in arrays.items():
            if array.ndim != 2 or not len(array):  # 0 or 2**32 queries arrive without their axis
                return BadRequest(f"{name} is a batch of 0 queries; at least 1 is needed")
        batch = max((len(array) for array in arrays.values()), default=1)
        try:
            return [
                self._vocabulary.query(
                    basket=arrays["basket"][i] if "basket" in arrays else (),
                    user_id=arrays["user_id"][i, 0] if "user_id" in arrays else b"",
                    exclude=arrays["exclude"][i] if "exclude" in arrays else (),
                    categories=arrays["categories"][i] if "categories" in arrays else (),
                )
                for i in range(batch)
            ]
        except BadRequest as error:
            return error


def _tensors(candidates: Candidates) -> dict[str, Any]:
    return {
        "candidate_rows": candidates.rows,
        "candidate_features": candidates.features,
        "candidate_sources": candidates.sources,
    }


def _refusal(error: Any) -> Any:
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
    )
