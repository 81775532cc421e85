"""The supervisor's watch for drift, beside a page that the test serves."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from operations.records.manifest import ReleaseManifest
from operations.supervisor.drift import DriftWatch
from tests import ROOT
from tests.building.drift_pages import RECORD, page


class Pages(http.server.ThreadingHTTPServer):
    """Triton's metrics page, whose text the test sets."""

    text = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Pages)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def pages() -> Iterator[Pages]:
    server = Pages(("127.0.0.1", 0), _Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server
    server.shutdown()
    serving.join()
    server.server_close()


def watch(pages: Pages, **changes: object) -> DriftWatch:
    described = {"release": 3, "contract": {"candidates": 128}, "golden": [], "digest": "", "files": {}}
    manifest = ReleaseManifest.model_validate(described | {"drift": RECORD} | changes)
    return DriftWatch(f"127.0.0.1:{pages.server_port}", lambda: 3, lambda _: manifest, lambda: 0)


def text_of(drift: DriftWatch) -> str:
    registry = CollectorRegistry()
    registry.register(drift)
    return generate_latest(registry).decode()


def test_gauges_tell_distance_bound_and_threshold(pages: Pages) -> None:
    drift = watch(pages)
    pages.text = page(0, 0, 0)
    drift.look(3)
    pages.text = page(500, 500, 500, tea=250, milk=250)
    drift.look(3)
    lines = dict(line.rsplit(" ", 1) for line in text_of(drift).splitlines() if not line.startswith("#"))
    labels = '{feature="unknown_items",window="hour"}'
    assert float(lines["cesta_drift_low" + labels]) > float(lines["cesta_drift_threshold" + labels]) == 0.1
    assert float(lines["cesta_drift" + labels]) > float(lines["cesta_drift_low" + labels])
    assert lines['cesta_drift_questions{window="hour"}'] == "500.0"
    assert lines["cesta_drift_reference"] == "1.0"


def test_a_release_without_a_reference_is_told_and_not_measured(pages: Pages) -> None:
    """Triton's page is not even read."""
    drift = watch(pages, drift=None)
    pages.shutdown()
    drift.look(3)
    assert "cesta_drift_reference 0.0" in text_of(drift)
    assert drift.report()["reference"] is None


def test_each_gauge_is_explained(pages: Pages) -> None:
    names = [line.split()[2] for line in text_of(watch(pages)).splitlines() if line.startswith("# TYPE")]
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert len(names) == 5
    assert [name for name in names if f"`{name}`" not in text] == []


def test_a_clock_that_is_set_begins_the_windows_anew(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine starts in 1970 and is told the time later: a minute of questions is no week of them."""
    clock = {"time": 1_000.0}
    monkeypatch.setattr("operations.supervisor.drift.time.time", lambda: clock["time"])
    monkeypatch.setattr("operations.supervisor.drift.time.monotonic", lambda: 7.0)
    drift = watch(pages)
    pages.text = page(0, 0, 0)
    drift.look(3)
    clock["time"] = 1_714_996_800.0
    pages.text = page(500, 500, 500, tea=250, milk=250)
    drift.look(3)
    assert not any(look["complete"] for look in drift.report()["windows"].values())
    pages.text = page(1000, 1000, 1000, tea=500, milk=500)
    drift.look(3)
    complete = {name: look["complete"] for name, look in drift.report()["windows"].items()}
    assert complete == {"hour": True, "day": False, "week": False}
