"""The `cesta` command as a person runs it: `ask` against the live release, `serve` from start to stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running.live import Live
from tests.running.processes import shared_memory
from tests.running.supervised import CESTA, FREE_PORTS, Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(90)]


def cesta(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run([*CESTA, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which a command failed."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_ask_prints_json_for_programs(live: Live) -> None:
    """The JSON has the release, and item id, score, rank and reasons of each item, as the client returns
    them.
    """
    basket = live.item_ids[:2]
    done = cesta(
        *("ask", "--json", f"--address={live.grpc}", f"--user={live.user_ids[0]}", "--k=5", "--timeout-s=20"),
        *("--basket", ",".join(basket), "--basket", live.item_ids[2], "--exclude", live.item_ids[3]),
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["release"] == live.release
    assert [set(item) for item in answer["items"]] == [{"item_id", "score", "rank", "reasons"}] * 5
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    assert {item["item_id"] for item in answer["items"]} <= set(live.item_ids) - set(live.item_ids[:4])
    words = {"usual", "together", "similar", "popular", "category"}
    assert all(item["reasons"] and set(item["reasons"]) <= words for item in answer["items"])


def test_ask_prints_a_table_with_names_for_people(live: Live) -> None:
    """Names come from the catalog that etl wrote to --out; each recommended item has a line."""
    question = ["ask", f"--address={live.http}", "--protocol=http", "--timeout-s=20", "--k=3"]
    question += [f"--basket={live.item_ids[0]}", f"--out={live.built.root}"]
    table, answer = cesta(*question), json.loads(cesta(*question, "--json").stdout)
    catalog = live.built.shop.catalog.set_index("item_id")

    assert (table.returncode, table.stderr) == (0, "")
    assert f"release {live.release}" in table.stdout
    for item in answer["items"]:
        (line,) = [line for line in table.stdout.splitlines() if f" {item['item_id']} " in line]
        assert catalog["name"][item["item_id"]][:20] in line


def test_ask_in_a_category_prints_only_its_items(live: Live) -> None:
    category = max(
        live.categories, key=lambda name: sum(name in names for names in live.categories_of.values())
    )
    done = cesta("ask", "--json", f"--address={live.grpc}", "--timeout-s=20", f"--category={category}")

    items = [item["item_id"] for item in json.loads(done.stdout)["items"]]
    assert len(items) == 10
    assert all(category in live.categories_of[item] for item in items)


def test_ask_repeats_the_server_s_sentence(live: Live) -> None:
    done = cesta("ask", f"--address={live.grpc}", "--timeout-s=20", f"--basket={'x' * 129}")
    assert refused(done).startswith("item id 'xxx")


def test_ask_names_an_unknown_category(live: Live) -> None:
    """On stderr beside a table, and in the JSON."""
    options = (f"--address={live.grpc}", "--timeout-s=20", "--category=no such shelf")
    table, as_json = cesta("ask", *options), cesta("ask", "--json", *options)
    assert 'release 1 has no category "no such shelf"' in table.stderr
    warnings = [{"code": "unknown_category", "value": "no such shelf"}]
    assert json.loads(as_json.stdout) | {"release": 1} == {"release": 1, "items": [], "warnings": warnings}


def test_ask_without_a_server_says_so() -> None:
    """The sentence names the address; there is no traceback."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = cesta("ask", "--basket=1", f"--address={address}")
    assert address in refused(done)


def test_serve_without_a_release_names_the_way_to_one(tmp_path: Path) -> None:
    done = cesta("serve", f"--repository={tmp_path / 'nothing'}", *FREE_PORTS)
    assert f"no release of recommender in {tmp_path / 'nothing'}" in refused(done)
    assert "make demo" in refused(done)


def test_serve_on_a_taken_port_names_it_and_starts_nothing(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cesta("serve", f"--repository={live.built.repository}", f"--http-port={port}", *FREE_PORTS[1:])
    assert f"http_port {port} on 127.0.0.1 cannot be used" in refused(done)


@pytest.fixture
def serving(live: Live) -> Iterator[Supervised]:
    serving = Supervised(live.built.repository)
    yield serving
    serving.kill()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_until_asked_to_stop_and_leaves_nothing(
    live: Live, serving: Supervised, stop: signal.Signals
) -> None:
    """It receives Ctrl-C, which the whole process group gets, or SIGTERM. The exit code is 0; no process,
    memory or file stays.
    """
    done = cesta("ask", "--json", f"--address={serving.addresses['grpc']}", "--timeout-s=20")
    assert json.loads(done.stdout)["release"] == live.release
    assert len(serving.processes) >= 3  # cesta, tritonserver, the sampler's stub, perhaps the scorer's
    assert shared_memory(serving.shm_prefix)

    assert serving.end(stop) == 0
    assert serving.not_events == []  # where no person looks, all that it says is JSON
    assert all(process.ended() for process in serving.processes)
    with pytest.raises(ProcessLookupError):
        os.killpg(serving.process.pid, 0)
    assert not shared_memory(serving.shm_prefix)
    assert not serving.runtime.exists()


def test_release_commands_against_the_server_that_runs(live: Live) -> None:
    """The active release is promoted again: the real models answer its golden requests by version."""
    there = (f"--repository={live.built.repository}", f"--address={live.grpc}")
    listed = cesta("release", "list", there[0])
    assert re.search(rf"{live.release} .* active", listed.stdout)
    done = cesta("release", "promote", str(live.release), *there)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"release {live.release} is active at {live.grpc}" in done.stdout
    assert "golden requests" in done.stdout
    assert "no release was active" in refused(cesta("release", "rollback", *there))
    assert "nothing to retire" in cesta("release", "retire", *there).stdout
    shown = json.loads(cesta("release", "show", str(live.release), there[0]).stdout)
    assert shown["release"] == live.release
    assert shown["history"][-1]["server"] == live.grpc


def test_release_without_a_server_changes_the_next_start(live: Live, tmp_path: Path) -> None:
    """The command does not touch the server of another repository."""
    repository = shutil.copytree(live.built.repository, tmp_path / "repository")
    done = cesta("release", "promote", str(live.release), f"--repository={repository}", "--offline")
    assert done.returncode == 0, done.stderr
    assert "is active at the next start" in done.stdout
    config = repository / "recommender" / "config.pbtxt"
    config.write_text(re.sub(r'string_value: "\w+"', 'string_value: "another"', config.read_text()))
    there = (f"--repository={repository}", f"--address={live.grpc}")
    assert "does not serve" in refused(cesta("release", "promote", str(live.release), *there))
