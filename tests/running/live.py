"""The release of `built` on a real tritonserver, with its known ids and the reference to compare with."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import tritonclient.grpc as triton

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.ids import Ids
from ensemble.reference import Reference
from operations.server.process import Server

if TYPE_CHECKING:
    from tests.building.slices import Built

MODEL = "recommender"


class Live:
    """A running server. Ids are text; items are ordered from best sellers to those that hardly sell."""

    def __init__(self, server: Server, built: Built, reference: Reference) -> None:
        self.server, self.built, self.reference = server, built, reference

    @property
    def http(self) -> str:
        return self.server.http

    @property
    def grpc(self) -> str:
        return self.server.grpc

    @property
    def metrics(self) -> str:
        return self.server.metrics

    @property
    def release(self) -> int:
        return self.built.release

    @property
    def arrays(self) -> SamplerArrays:
        return self.reference.sampler.arrays

    @cached_property
    def item_ids(self) -> list[str]:
        ids, order = _texts(self.arrays.item_ids), self.arrays.popularity.order.tolist()
        return [ids[row] for row in [*order, *sorted(set(range(1, len(ids))) - set(order))]]

    @cached_property
    def user_ids(self) -> list[str]:
        return _texts(self.arrays.user_ids)[1:]

    @cached_property
    def categories(self) -> list[str]:
        return _texts(self.arrays.category_names)[1:]

    @cached_property
    def categories_of(self) -> dict[str, set[str]]:
        """Item id → its categories, of every column."""
        catalog = self.built.shop.catalog.iloc[1:]
        columns = [catalog[name] for name in self.built.shop.category_columns]
        return dict(zip(catalog["item_id"], map(set, zip(*columns, strict=True)), strict=True))

    def counts(self, model: str = MODEL) -> dict[str, int]:
        """Triton's counts for `model`: requests by outcome, `execution` passes, `inference` rows."""
        with triton.InferenceServerClient(self.grpc) as client:
            (model_statistics,) = client.get_inference_statistics(model).model_stats
        stats = model_statistics.inference_stats
        return {
            "execution": model_statistics.execution_count,
            "inference": model_statistics.inference_count,
            **{name: getattr(stats, name).count for name in ("success", "fail", "cache_hit", "cache_miss")},
        }


def check_canary(server: Server) -> None:
    """Raise unless the server recommends something: Triton's own ready flag ignores dead stubs."""
    with triton.InferenceServerClient(server.grpc) as client:
        basket = triton.InferInput("basket", [1, 1], "BYTES")
        basket.set_data_from_numpy(np.array([[b"canary"]], object))
        answer = client.infer(MODEL, [basket], client_timeout=30).as_numpy("item_ids")
    assert answer is not None
    assert answer[0, 0]


def _texts(ids: Ids) -> list[str]:
    return [value.decode() for value in ids.unpack()]
