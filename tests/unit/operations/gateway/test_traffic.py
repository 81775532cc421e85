"""The counts of gateway and sampler by release, from pages in Prometheus' form."""

from __future__ import annotations

from pathlib import Path

import pytest

from operations.gateway import traffic
from operations.releases.stores.store import open_repository

GATEWAY = """
# TYPE cesta_gateway_requests_total counter
cesta_gateway_requests_total{route="recommend",release="1",key="web",status="200",model="recommender"} 70
cesta_gateway_requests_total{route="grpc",release="",key="web",status="503",model="recommender"} 2
cesta_gateway_requests_total{route="recommend",release="2",key="a",status="200",model="recommender_canary"} 9
cesta_gateway_requests_total{route="recommend",release="",key="",status="401",model=""} 1000
cesta_gateway_requests_total{route="items",release="",key="web",status="200",model=""} 30
# TYPE cesta_gateway_canary_failures_total counter
cesta_gateway_canary_failures_total 1
# TYPE cesta_gateway_request_seconds histogram
cesta_gateway_request_seconds_bucket{route="recommend",release="1",le="0.05"} 68
cesta_gateway_request_seconds_bucket{route="recommend",release="1",le="+Inf"} 70
cesta_gateway_request_seconds_sum{route="recommend",release="1"} 1
cesta_gateway_request_seconds_count{route="recommend",release="1"} 70
cesta_gateway_request_seconds_bucket{route="status",release="",le="0.05"} 5
cesta_gateway_request_seconds_count{route="status",release=""} 5
"""
TRITON = """
# TYPE cesta_sampler_queries_total counter
cesta_sampler_queries_total{release="1",model_instance="a",user="none",basket="known"} 40
cesta_sampler_queries_total{release="1",model_instance="b",user="known",basket="known"} 5
# TYPE cesta_sampler_item_ids_total counter
cesta_sampler_item_ids_total{release="1",model_instance="a",item="known"} 90
cesta_sampler_item_ids_total{release="1",model_instance="a",item="unknown"} 10
"""


def test_shops_requests_are_counted_by_release_and_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers, health checks and other paths are no requests of shops. Instances of a model add up."""
    monkeypatch.setattr(traffic, "read_metrics", lambda _: GATEWAY)
    monkeypatch.setattr(traffic, "_read_page", lambda _: TRITON)
    found = traffic.read_traffic(open_repository(tmp_path), tmp_path, "", probes=7)
    assert (found["active"], found["canary"]) == (None, None)
    assert found["counts"] == {
        "answered": {"recommender": 72, "recommender_canary": 9},
        "failed": {"recommender": 2},
        "covered": {"": 1},
        "timed": {"1": 70},
        "quick": {"1": 68},
        "queries": {"1": 45},
        "items": {"1": 100},
        "unknown": {"1": 10},
        "probes": {"": 7},
    }


def test_without_a_gateway_nothing_is_counted(tmp_path: Path) -> None:
    assert traffic.read_traffic(open_repository(tmp_path), tmp_path, "", 0)["counts"] is None
