"""Settings: pipeline.toml, a user's own toml, overrides, and refusals that name the way out."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from export_scripts.settings import SHIPPED, load_settings, merged
from operations.errors import BadSettings
from operations.settings import load_bars


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_is_complete_and_means_the_complete_journey() -> None:
    """Without any argument the settings are those of the demo data set."""
    settings = load_settings()
    assert settings.data.transactions is None
    assert settings.data.columns.user_id == "household_id"
    assert "FUEL" in settings.etl.drop["department"]


def test_another_shop_gets_nothing_of_the_complete_journey() -> None:
    """The set's column names and drop list would be wrong anywhere else."""
    settings = load_settings(overrides={"data.transactions": Path("sales.csv")})
    assert settings.data.columns.user_id is None
    assert settings.data.name_columns == ()
    assert settings.etl.drop == {}


def test_a_users_file_holds_only_what_differs(tmp_path: Path) -> None:
    """One key is changed, its neighbours keep the shipped values."""
    toml = write(tmp_path / "my.toml", '[etl]\nreturns = "drop"\n')
    settings = load_settings(toml)
    assert (settings.etl.returns, settings.etl.basket_hours) == ("drop", 24)


def test_a_users_file_can_empty_one_rule_of_the_demo(tmp_path: Path) -> None:
    """The overlay of the Complete Journey comes before the user's own toml."""
    settings = load_settings(write(tmp_path / "my.toml", "[etl.drop]\ndepartment = []\n"))
    assert settings.etl.drop["department"] == ()
    assert "TICKETS" in settings.etl.drop["product_category"]


def test_overrides_win_and_none_leaves_alone(tmp_path: Path) -> None:
    """Command-line options that were not given arrive as None."""
    toml = write(tmp_path / "my.toml", '[etl]\nreturns = "drop"\nunlisted = "keep"\n')
    settings = load_settings(toml, {"etl.returns": "refuse", "etl.unlisted": None})
    assert (settings.etl.returns, settings.etl.unlisted) == ("refuse", "keep")


def test_relative_paths_count_from_the_file_they_stand_in(tmp_path: Path) -> None:
    """A toml beside its data then works from any working directory."""
    settings = load_settings(write(tmp_path / "my.toml", '[data]\ntransactions = "sales.csv"\n'))
    assert settings.data.transactions == tmp_path / "sales.csv"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (
            '[data]\ncategory_columns = "aisle"\n[etl.drop]\naisle = "FUEL"\n',
            [
                'data.category_columns: write a list, as in ["aisle"]',
                'etl.drop.aisle: write a list, as in ["FUEL"]',
            ],
        ),
        (
            '[etl]\nreturn = "drop"\n',
            ['key "return"', "[etl]", 'did you mean "returns"?', "basket_hours", "unlisted"],
        ),
        ('[data.columns]\nuser = "u"\n', ['key "user"', "[data.columns]", '"user_id"', "timestamp"]),
        ("[elt]\n", ['table "elt"', 'did you mean "etl"?', "data"]),
        ("[etl]\nbasket_hours = 0\n", ["etl.basket_hours", "greater than 0", "0"]),
        ('[etl]\nreturns = "ignore"\n', ["etl.returns", "'refuse' or 'drop'", "ignore"]),
        ('[data]\nproducts = "p.csv"\n', ["products without transactions"]),
        ('[data]\ncategory_columns = ["name"]\n', ["category_columns", "name"]),
        (
            '[data]\ncategory_columns = ["cat", "kind", "cat"]\n',
            ["category_columns lists cat more than once"],
        ),
        ('[data]\nname_columns = ["title", "title"]\n', ["name_columns lists title more than once"]),
        ("etl = 5\n", ["etl", "5"]),
        ("data = 5\n", ["data", "5"]),
        (
            "[release]\nhr_at_1 = 0.2\n",
            ['key "hr_at_1"', "[release]", 'did you mean "hr_at_10"?', "ndcg_at_10"],
        ),
        ("[release]\nhr_at_10 = 20\n", ["release.hr_at_10", "less than or equal to 1", "20"]),
        ("[relase]\n", ['table "relase"', 'did you mean "release"?']),
        ("[etl\n", ["my.toml", "is not toml"]),
        ('[ranking]\nexplore = "more"\n', ["ranking.explore", '"auto"', "from -10", "to 10", "'more'"]),
        ("[ranking]\nexplore = 11\n", ["ranking.explore", '"auto"', "(it is 11)"]),
        ("[ranking]\nexplore = true\n", ["ranking.explore", '"auto"', "(it is True)"]),
        ("[ranking]\nexplore = nan\n", ["ranking.explore", '"auto"', "(it is nan)"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_known_ones(tmp_path: Path, toml: str, words: list[str]) -> None:
    """The message has key and table, the known keys, and the probable meaning."""
    with pytest.raises(BadSettings) as error:
        load_settings(write(tmp_path / "my.toml", toml))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_all_wrong_keys_are_reported_together() -> None:
    """One run of the command shows every slip."""
    with pytest.raises(BadSettings, match=r'(?s)"colour".*"retruns"'):
        load_settings(overrides={"etl.retruns": "drop", "data.colour": 1})


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    """It is not mistaken for an empty file."""
    with pytest.raises(BadSettings, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")


def test_settings_are_frozen() -> None:
    """A stage cannot change what the next one reads."""
    with pytest.raises(ValidationError):
        load_settings().etl.returns = "drop"  # type: ignore[misc]


def test_tables_merge_and_lists_are_replaced() -> None:
    """Merging lists would leave no way to remove an entry."""
    assert merged({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}}


def test_the_bars_of_a_release_are_settings_like_any_other(tmp_path: Path) -> None:
    """Their defaults lie in release.toml; a user's toml and `--set release.hr_at_10=0.2` change them."""
    toml = write(tmp_path / "my.toml", "[release]\nhr_at_10 = 0.3\n")
    assert load_settings().release == load_bars()
    assert load_settings(toml).release.hr_at_10 == 0.3
    assert load_settings(toml, {"release.hr_at_10": 0.2}).release.hr_at_10 == 0.2
    assert load_settings(toml).release.ndcg_at_10 == load_bars().ndcg_at_10


def test_promoting_reads_the_bars_of_a_users_toml_for_all_stages(tmp_path: Path) -> None:
    """`cesta release promote --settings` takes the same file as `cesta build --settings`."""
    toml = write(tmp_path / "my.toml", '[etl]\nreturns = "drop"\n[release]\nhr_at_10 = 0.3\n')
    assert load_bars(toml) == load_settings(toml).release
    assert load_bars(SHIPPED) == load_bars()  # no table of pipeline.toml is taken for a misspelt one


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[release]\nhr_at_1 = 0.2\n", ['"hr_at_1"', "[release]", 'did you mean "hr_at_10"?', "ndcg_at_10"]),
        ("[release]\nhr_at_10 = 20\n", ["release.hr_at_10", "less than or equal to 1", "20"]),
        ("[relase]\nhr_at_10 = 0.2\n", ['"relase"', "my.toml", 'did you mean "release"?']),
        ("[release\n", ["my.toml", "is not toml"]),
    ],
)
def test_wrong_bars_are_refused_when_promoting(tmp_path: Path, toml: str, words: list[str]) -> None:
    """A bar that is not read would let any release pass."""
    with pytest.raises(BadSettings) as error:
        load_bars(write(tmp_path / "my.toml", toml))
    assert all(word in str(error.value) for word in words), str(error.value)
