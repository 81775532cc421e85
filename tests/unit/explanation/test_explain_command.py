"""What `cesta explain` prints, and which options it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from export_scripts.commands.explain import explain
from operations.errors import CestaError
from operations.outputs import ITEMS
from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop

app = typer.Typer()
app.command()(explain)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build with a release of 20 items and two users, and a catalog with one name."""
    shop = random_shop(np.random.default_rng(4), 20, 2, 10)
    folder = tmp_path_factory.mktemp("out")
    publish_release(folder, shop, arrays_of(shop), random_scorer(3, 21), width=64)
    (folder / "data").mkdir()
    (folder / "data" / ITEMS).write_text(json.dumps({"items": {"i0001": {"name": "Milk [organic]"}}}))
    return folder


def run(*options: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, options)), catch_exceptions=False)


def test_tables_show_the_answer_and_the_items_that_were_asked_about(out: Path) -> None:
    first = json.loads(run("--out", out, "--user", "u1", "--json").stdout)["items"][0]["item_id"]
    result = run("--out", out, "--user", "u1", "--basket", "i0001", "--item", f"i0001,{first}", "--k", "3")
    assert "Why these (release 1): " in result.stdout
    assert "i0001 Milk [organic]: it is in the basket" in result.stdout
    assert f"The score of {first}" in result.stdout
    assert "explanations took " in result.stdout


def test_an_item_that_is_not_proposed_shows_how_far_each_source_was(out: Path) -> None:
    shown = run("--out", out, "--user", "u1", "--item", ",".join(f"i{row:04d}" for row in range(1, 21)))
    assert (
        "no source proposes it, so it is no candidate\n  usual: the customer never bought it\n"
        in shown.stdout
    )


def test_json_holds_the_parts_of_each_score(out: Path) -> None:
    told = json.loads(run("--out", out, "--user", "u1", "--item", "nothing", "--k", "3", "--json").stdout)
    assert told["release"] == 1
    assert told["question"]["known_user"] is True
    assert [one["rank"] for one in told["items"]] == [1, 2, 3]
    for one in told["items"]:
        parts = [part["total"] for part in one["groups"]]
        assert told["baseline"]["score"] + sum(parts) == pytest.approx(one["score"], abs=1e-5)
        assert "usual" not in one["sources"] or one["sources"]["usual"]["kind"] == "receipt"
    (other,) = told["others"]
    assert (other["stage"], other["explanation"]) == ("unknown", None)


def test_an_empty_answer_has_no_baseline(out: Path) -> None:
    excluded = ",".join(f"i{row:04d}" for row in range(1, 21))
    told = json.loads(run("--out", out, "--exclude", excluded, "--item", "i0003", "--json").stdout)
    assert (told["candidates"], told["baseline"]["score"], told["items"]) == (0, None, [])
    assert told["others"][0]["stage"] == "excluded"
    assert "0 explanations took" in run("--out", out, "--exclude", excluded).stdout


def test_an_unknown_category_is_named(out: Path) -> None:
    """It matches nothing, so the answer is empty for no other reason to be seen."""
    shown = run("--out", out, "--category", "Käse")
    assert shown.stderr == 'release 1 has no category "Käse"; it matches nothing\n'
    told = json.loads(run("--out", out, "--category", "Käse", "--json").stdout)
    assert (told["question"]["unknown_categories"], told["items"]) == (["Käse"], [])


def test_a_longer_list_than_an_answer_is_refused(out: Path) -> None:
    with pytest.raises(CestaError, match=r"^--k 6: an answer of release 1 has 5 items; --item tells about"):
        run("--out", out, "--k", "6")


def test_a_bad_question_is_refused_as_the_server_does(out: Path) -> None:
    with pytest.raises(CestaError, match=r"^basket holds an id of 129 bytes; at most 128 are allowed"):
        run("--out", out, "--basket", "x" * 129)


def test_an_empty_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=rf"^no release in {tmp_path}/repository; run "):
        run("--out", tmp_path)
