"""What `cesta score` prints, and which options it refuses."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from export_scripts.commands.score import score
from operations.errors import CestaError
from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop

app = typer.Typer()
app.command()(score)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build with a release of 20 items and two users."""
    shop = random_shop(np.random.default_rng(4), 20, 2, 10)
    folder = tmp_path_factory.mktemp("out")
    publish_release(folder, shop, arrays_of(shop), random_scorer(3, 21), width=64)
    return folder


def run(*options: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, options), "--workers", "1"], catch_exceptions=False)


def test_it_prints_the_rows_the_place_and_who_was_left_out(out: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id\nu1\nnobody\n")
    result = run("--out", out, "--users", users, "--k", "3", "--compare", "5")
    assert f"1 of 2 have no rows; {out}/scores/_left_out.csv tells why" in result.stderr
    assert result.stdout.endswith(f"3 rows of release 1 in {out}/scores\n")
    assert "none: the lists are identical" in result.stdout
    assert (out / "scores" / "partition=00000" / "scores.parquet").exists()


def test_users_and_baskets_exclude_each_other(out: Path, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r"^--users and --baskets: give one of them$"):
        run("--out", out, "--users", tmp_path / "a.csv", "--baskets", tmp_path / "b.csv")


def test_an_empty_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=rf"^no release in {tmp_path}/repository; run "):
        run("--out", tmp_path)
