"""Triton's adapter of the candidate sampler: tensors → queries → one call for the whole batch → tensors."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .arrays import NO_CATEGORY
from .digest import FURTHER, INPUTS, query_digest, warned
from .groups import groups_of
from .live.change_log import FOLDER_VARIABLE
from .live.follower import Follower
from .metrics import Reporter, Tally
from .query import BadRequest, Query
from .sampler import CandidateSampler

AS_RELEASED = b"-"  # the value of `live` that asks without live tables: for golden requests
Asked = tuple[Query, bytes]  # a query, and the digest of the ids that it was made from


class TritonPythonModel:
    """One instance is one process with its own sampler; the arrays are mapped, so instances share them."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self._sampler = CandidateSampler.load(folder / "arrays", _threads(json.loads(args["model_config"])))
        self._vocabulary = self._sampler.vocabulary()
        first = self._vocabulary.query([b"?", b"!"], b"?")  # unknown ids: every kind of lookup
        self._sampler.sample([first])  # compiles the kernels, before the first shopper waits for it
        self._sampler.sample([Query(unwanted=[NO_CATEGORY])])  # likewise for batches that have further inputs
        self._tally = Tally(groups_of(self._sampler.arrays))
        labels = {"release": args["model_version"], "model_instance": args["model_instance_name"]}
        folder_of_logs = os.environ.get(FOLDER_VARIABLE)
        self._follower = (
            Follower(Path(folder_of_logs), self._sampler.live, labels) if folder_of_logs else None
        )
        self._reporter = Reporter(self._tally, pb_utils.MetricFamily, labels)

    def finalize(self) -> None:
        """The release is unloaded, or the server stops."""
        if self._follower:
            self._follower.close()
        self._reporter.close()
        self._sampler.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One pass over all queries of all requests; a bad request fails alone."""
        begun = perf_counter()
        parsed = [self._parse(request) for request in requests]
        self._tally.took("parse", (after_parse := perf_counter()) - begun)
        self._tally.refused(sum(isinstance(found, BadRequest) for found in parsed))
        asked = [one for found in parsed if not isinstance(found, BadRequest) for one in found]
        if not asked:
            return [_refusal(found) for found in parsed]
        outputs = self._sample([query for query, _ in asked])
        outputs["digest"] = np.array([[digest] for _, digest in asked], np.object_)
        self._tally.took("sample", (after_sample := perf_counter()) - after_parse)
        responses = _responses(parsed, outputs)
        self._tally.took("respond", perf_counter() - after_sample)
        return responses

    def _sample(self, queries: list[Query]) -> dict[str, Any]:
        """The output tensors of all queries."""
        candidates = self._sampler.sample(queries)
        self._tally.sampled(queries, candidates.sources)
        return {"rows": self._sampler.rows(queries, candidates), "candidate_features": candidates.features}

    def _parse(self, request: Any) -> list[Asked] | BadRequest:
        """One query per row of the request's batch, or what is wrong with it. ``nonce`` is not read.

        Of ``live`` only AS_RELEASED is; any other value is a part of the response cache's key and no more.
        """
        arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        for name, array in arrays.items():
            if array.ndim != 2 or not len(array):  # 0 or 2**32 queries arrive without their axis
                return BadRequest(f"{name} is a batch of 0 queries; at least 1 is needed")
        batch = max((len(array) for array in arrays.values()), default=1)
        absent: list[Any] = [()] * batch
        columns = [arrays[name].tolist() if name in arrays else absent for name in INPUTS]
        further = {name: arrays[name].tolist() for name in FURTHER if name in arrays}
        try:
            asked = [
                self._ask(*ids, **{name: column[i] for name, column in further.items()})
                for i, ids in enumerate(zip(*columns, strict=True))
            ]
            if "live" in arrays:
                for (query, _), live in zip(asked, arrays["live"].tolist(), strict=True):
                    query.is_live = live != [AS_RELEASED]
            return asked
        except BadRequest as error:
            return error

    def _ask(self, *inputs: Collection[bytes], **further: Collection[Any]) -> Asked:
        basket, user_id, exclude, categories = inputs
        query = self._vocabulary.query(basket, next(iter(user_id), b""), exclude, categories, None, **further)
        return query, query_digest(*inputs, **further)


def _threads(config: dict[str, Any]) -> int:
    """The parameter `threads` of config.pbtxt; 1 where there is none."""
    text = config.get("parameters", {}).get("threads", {"string_value": "1"})["string_value"]
    if not text.isdecimal() or not int(text):
        raise ValueError(f'candidate_sampler: parameter threads is "{text}"; expected a number from 1')
    return int(text)


def _responses(parsed: list[list[Asked] | BadRequest], outputs: dict[str, Any]) -> list[Any]:
    """Each request's rows of the outputs, or its refusal."""
    responses, start = [], 0
    for found in parsed:
        if isinstance(found, BadRequest):
            responses.append(_refusal(found))
            continue
        part = slice(start, start := start + len(found))
        own = {name: array[part] for name, array in outputs.items()}
        if any(query.warnings for query, _ in found):
            own["digest"] = warned(own["digest"], [query.warnings for query, _ in found])
        tensors = [pb_utils.Tensor(name, array) for name, array in own.items()]
        responses.append(pb_utils.InferenceResponse(tensors))
    return responses


def _refusal(error: Any) -> Any:
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
    )
