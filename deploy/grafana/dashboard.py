"""The source of the dashboard: `python deploy/grafana/dashboard.py` writes dashboards/cesta.json.

A panel has a title, a unit and its queries; places and ids follow from the order. Grafana's own JSON needs a
thousand lines for the same.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).with_name("dashboards") / "cesta.json"
SHOPS = 'route=~"recommend|batch|tensors|grpc"'
RATE = "$__rate_interval"  # at least four scrapes
WIDTH, HEIGHT, PER_ROW = 8, 7, 3


@dataclass(frozen=True)
class Panel:
    """`queries` maps a legend (with Grafana's `{{label}}`) to PromQL; `stat` shows only the last value."""

    title: str
    unit: str  # in Grafana's words: reqps, s, percentunit, short, bytes, µs
    queries: dict[str, str]
    about: str = ""
    stat: bool = False


def quantile(q: float, histogram: str, by: str = "", match: str = "") -> str:
    """Return PromQL for the q-quantile of a histogram's recent values, for each value of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{match}[{RATE}])))"


def rate(counter: str, by: str, match: str = "") -> str:
    """Return PromQL for events per second, for each value of the labels `by`."""
    return f"sum by ({by}) (rate({counter}{match}[{RATE}]))"


def ratio(part: str, whole: str) -> str:
    """Return PromQL for the ratio of two rates with the same labels."""
    return f"{part} / {whole}"


REQUESTS, SECONDS = "cesta_gateway_requests_total", "cesta_gateway_request_seconds"
UPSTREAM = "cesta_gateway_upstream_seconds"
GIVEN = f'{{{SHOPS}, release!=""}}'  # requests that Triton has answered
MODEL = '{model=~"recommender.*"}'
BY = "model, release"
BAD = '{model=~"recommender.*", status=~"5.."}'
FAILED = f'{{{SHOPS}, status=~"5.."}}'
ANSWERED = f"{{{SHOPS}}}"

ROWS: dict[str, list[Panel]] = {
    "Objectives: 99.9 % answered, 99 % within 50 ms": [
        Panel(
            "Answered, last 3 days",
            "percentunit",
            {"answered": "1 - cesta:errors:ratio_rate3d"},
            "5xx are failures; 4xx are the caller's.",
            stat=True,
        ),
        Panel(
            "Budget left of 30 days",
            "percentunit",
            {
                "errors": f"1 - (sum(increase({REQUESTS}{FAILED}[30d])) or vector(0))"
                f" / sum(increase({REQUESTS}{ANSWERED}[30d])) / 0.001",
                "slow": f'1 - (1 - sum(increase({SECONDS}_bucket{{{SHOPS}, le="0.05"}}[30d]))'
                f" / sum(increase({SECONDS}_count{ANSWERED}[30d]))) / 0.01",
            },
            "Needs --storage.tsdb.retention.time=35d; with less it covers only the stored days.",
            stat=True,
        ),
        Panel(
            "Budget burn",
            "short",
            {"errors": "cesta:errors:ratio_rate1h / 0.001", "slow": "cesta:slow:ratio_rate1h / 0.01"},
            "Consumption of the budget over an hour, in multiples of the allowed rate. 14.4 raises an alert.",
        ),
    ],
    "Traffic at the gateway": [
        Panel("Requests by route", "reqps", {"{{route}}": rate(REQUESTS, "route")}),
        Panel("Requests by key", "reqps", {"{{key}}": rate(REQUESTS, "key")}),
        Panel("Errors by status", "reqps", {"{{status}}": rate(REQUESTS, "status", '{status=~"[45].."}')}),
    ],
    "Latency at the gateway": [
        Panel(
            "Latency",
            "s",
            {f"p{q * 100:g}": quantile(q, SECONDS, match=ANSWERED) for q in (0.5, 0.95, 0.99)},
        ),
        Panel("Latency by release", "s", {"p95 {{release}}": quantile(0.95, SECONDS, "release", ANSWERED)}),
        Panel("Latency by route", "s", {"p95 {{route}}": quantile(0.95, SECONDS, "route")}),
        Panel(
            "Behind the gateway",
            "s",
            {"p95 {{route}}": quantile(0.95, UPSTREAM, "route", GIVEN)},
            "Time spent waiting for Triton; the slowest of a batch's parallel queries counts.",
        ),
        Panel(
            "In the gateway itself",
            "s",
            {
                "{{route}}": ratio(
                    f"({rate(f'{SECONDS}_sum', 'route', GIVEN)} - {rate(f'{UPSTREAM}_sum', 'route', GIVEN)})",
                    rate(f"{SECONDS}_count", "route", GIVEN),
                )
            },
            "Mean of answered requests; it includes the time on a client's slow connection.",
        ),
    ],
    "Releases: active and canary": [
        Panel("Active release", "none", {"release": "max(cesta_active_release)"}, stat=True),
        Panel(
            "Answers by release",
            "reqps",
            {
                "{{model}} {{release}}": rate(REQUESTS, BY, MODEL),
                "computed by {{version}}": rate(
                    "nv_inference_request_success", "version", '{model=~"ncf_scorer.*"}'
                ),
            },
            "The gateway counts all answers; the scorer counts those that were not in the cache.",
        ),
        Panel(
            "Errors by release",
            "percentunit",
            {
                "{{model}} {{release}}": ratio(
                    f"({rate(REQUESTS, BY, BAD)} or 0 * {rate(REQUESTS, BY, MODEL)})",
                    rate(REQUESTS, BY, MODEL),
                )
            },
        ),
    ],
    "Response cache": [
        Panel("Cache hit ratio", "percentunit", {"hits": "cesta:cache_hits:ratio_rate10m"}),
        Panel("Cache use", "percentunit", {"full": "nv_cache_util"}),
        Panel(
            "Cache evictions", "short", {"evictions a second": f"sum(rate(nv_cache_num_evictions[{RATE}]))"}
        ),
    ],
    "What the sampler is asked (cache hits never reach it)": [
        Panel("Queries by user", "reqps", {"{{user}}": rate("cesta_sampler_queries_total", "user")}),
        Panel("Queries by basket", "reqps", {"{{basket}}": rate("cesta_sampler_queries_total", "basket")}),
        Panel(
            "Item ids that are unknown",
            "percentunit",
            {
                "release {{release}}": ratio(
                    rate("cesta_sampler_item_ids_total", "release", '{item="unknown"}'),
                    rate("cesta_sampler_item_ids_total", "release"),
                )
            },
            "Includes the supervisor's canary, one query a second; the alert excludes it.",
        ),
        Panel(
            "Basket size",
            "short",
            {f"p{q * 100:g}": quantile(q, "cesta_sampler_basket_items") for q in (0.5, 0.95)},
        ),
        Panel(
            "Refused requests",
            "reqps",
            {"refused": "sum(rate(cesta_sampler_refused_total[$__rate_interval]))"},
        ),
        Panel(
            "Candidates of a query by source",
            "short",
            {
                "{{source}}": f"{rate('cesta_sampler_candidates_total', 'source')} / on () group_left"
                f' sum(rate(cesta_sampler_stage_seconds_count{{stage="sample"}}[{RATE}]))'
            },
        ),
    ],
    "Drift: questions and the release's own receipts": [
        Panel(
            "Drift by feature",
            "short",
            {
                "{{feature}}, {{window}}": "cesta_drift_low"
                " / on (instance, feature, window) cesta_drift_threshold"
            },
            "Lower bound of the distance over its threshold: above 1 is drift.",
        ),
        Panel(
            "Distance by feature",
            "none",
            {"{{feature}}, {{window}}": "cesta_drift"},
            "0 equal, 1 nothing in common.",
        ),
        Panel(
            "Items of baskets by category",
            "reqps",
            {"{{category}}": "topk(10, " + rate("cesta_sampler_basket_categories_total", "category") + ")"},
            "The ten most asked for.",
        ),
    ],
    "Where the time goes in Triton": [
        Panel(
            "Sampler seconds by stage",
            "s",
            {"p95 {{stage}} {{release}}": quantile(0.95, "cesta_sampler_stage_seconds", "stage, release")},
            "Time of one pass over a batch.",
        ),
        Panel(
            "Batch size by model",
            "short",
            {
                "{{model}} {{version}}": ratio(
                    rate("nv_inference_count", "model, version", '{model!~"recommender.*"}'),
                    rate("nv_inference_exec_count", "model, version", '{model!~"recommender.*"}'),
                )
            },
        ),
        Panel(
            "Queue time by model",
            "µs",
            {
                "{{model}} {{version}}": ratio(
                    rate("nv_inference_queue_duration_us", "model, version"),
                    rate("nv_inference_request_success", "model, version"),
                )
            },
        ),
        Panel(
            "Compute time by model",
            "µs",
            {
                "{{model}} {{version}}": ratio(
                    rate("nv_inference_compute_infer_duration_us", "model, version"),
                    rate("nv_inference_request_success", "model, version"),
                )
            },
        ),
        Panel(
            "Pending requests", "short", {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"}
        ),
        Panel(
            "Failures by reason",
            "reqps",
            {"{{model}} {{reason}}": rate("nv_inference_request_failure", "model, reason")},
        ),
    ],
    "Health": [
        Panel(
            "Alerts firing", "none", {"alerts": 'count(ALERTS{alertstate="firing"}) or vector(0)'}, stat=True
        ),
        Panel("Ready", "none", {"ready": "min(cesta_ready)"}, "1 while canaries are answered.", stat=True),
        Panel(
            "Gateway", "none", {"up": "min(cesta_gateway_up)"}, "1 while it accepts connections.", stat=True
        ),
        Panel("Canary inference", "s", {"p95": quantile(0.95, "cesta_canary_seconds")}),
        Panel(
            "Restarts in an hour",
            "short",
            {"{{trouble}}": "sum by (trouble) (increase(cesta_restarts_total[1h]))"},
        ),
        Panel(
            "Failed promotions in a day",
            "short",
            {"failed": "sum(increase(cesta_promotions_failed_total[1d]))"},
        ),
        Panel(
            "Memory",
            "bytes",
            {
                "machine, used": "nv_cpu_memory_used_bytes",
                "machine, all": "nv_cpu_memory_total_bytes",
                "supervisor": "cesta_supervisor_process_resident_memory_bytes",
            },
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard that Grafana provisions."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH * PER_ROW, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "collapsed": False, "panels": []})
        y += 1
        for i, panel in enumerate(row):
            place = {"x": WIDTH * (i % PER_ROW), "y": y + HEIGHT * (i // PER_ROW), "w": WIDTH, "h": HEIGHT}
            panels.append(_drawn(panel, place))
        y += HEIGHT * math.ceil(len(row) / PER_ROW)
    for number, drawn in enumerate(panels, start=1):
        drawn["id"] = number
    return {
        "uid": "cesta",
        "title": "cesta",
        "tags": ["cesta"],
        "schemaVersion": 38,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [_promotions()]},
        "panels": panels,
    }


def _drawn(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": None if panel.stat else 0}, "overrides": []},
        "targets": targets,
    }


def _promotions() -> dict[str, Any]:
    """Mark each change of the active release in every panel."""
    return {
        "name": "promotions",
        "enable": True,
        "datasource": _SOURCE,
        "expr": "changes(cesta_active_release[$__interval]) > 0",
        "titleFormat": "promoted",
        "iconColor": "blue",
    }


_SOURCE = {"type": "prometheus", "uid": "prometheus"}


if __name__ == "__main__":
    OUT.write_text(json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
