"""A drift record, and the metrics page of a server that answers with it, worked out by hand."""

from operations.drift.features import DAY, HOUR, WEEK
from operations.records.drift_record import DriftRecord

RECORD = DriftRecord.model_validate(
    {
        "first": "2024-03-01T00:00:00Z",
        "last": "2024-04-30T00:00:00Z",
        "features": {
            "unknown_items": {"counts": {"known": 990, "unknown": 10}, "observations": 500},
            "category": {"counts": {"tea": 500, "milk": 500}, "observations": 500},
            "weekday": {"counts": {"Mon": 100, "Tue": 100}, "observations": 200},
        },
        "thresholds": {
            HOUR: {"unknown_items": 0.1, "category": 0.1},
            DAY: {"unknown_items": 0.1, "category": 0.1},
            WEEK: {"unknown_items": 0.1, "category": 0.1, "weekday": 0.1},
        },
    }
)


def page(queries: int, known: int, unknown: int, release: int = 3, **categories: int) -> str:
    """Triton's page with the counters of one process."""
    own = f'release="{release}",model_instance="candidate_sampler_0_0"'
    series = {
        f'queries_total{{basket="known",user="known",{own}}}': queries,
        f'item_ids_total{{item="known",{own}}}': known,
        f'item_ids_total{{item="unknown",{own}}}': unknown,
        **{f'basket_categories_total{{category="{c}",{own}}}': n for c, n in categories.items()},
    }
    return "nv_gpu 1\n" + "".join(f"cesta_sampler_{name} {value}\n" for name, value in series.items())
