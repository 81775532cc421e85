"""The command: one sentence per mistake, exit status 1 or 2, results on stdout."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from cesta_client import __version__
from export_scripts.commands import options
from operations import cli
from operations.commands.ask import read_ids
from operations.shipped.commit import find_commit
from tests import ROOT
from tests.building.shops import make_shop

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    """Restore logging: the command logs to the stderr of its test, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def cesta(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: (exit status, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cesta", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def test_help_names_every_stage(cesta: Run) -> None:
    status, out, _ = cesta("--help")
    assert status == 0
    assert all(stage in out for stage in ("etl", "train", "evaluate", "export", "publish", "build"))


def test_help_has_one_line_for_a_verb(cesta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns; those that make a release come in the order of their use."""
    monkeypatch.setenv("COLUMNS", "80")
    rows = [line.split()[1:] for line in cesta("--help")[1].splitlines() if line.startswith("│ ")]
    verbs = [words[0] for words in rows if not words[0].startswith("--")]
    assert verbs == [
        *cli.MAKING,
        "publish",
        "install",
        "serve",
        "stack",
        "ask",
        "release",
        "keys",
        "events",
        "stock",
    ]


def test_the_version_is_one_line(cesta: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the commit, and without a serving environment the way to Triton."""
    monkeypatch.setenv("CESTA_SERVING_ENV", str(tmp_path))
    commit = find_commit()
    assert commit is not None
    sentence = f'cesta {__version__} (commit {commit}), no Triton yet: "make install" installs it\n'
    assert cesta("--version") == (0, sentence, "")


def test_an_image_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no repository. Without git there is nothing to ask, either."""
    monkeypatch.setenv("PATH", "")
    assert find_commit() is None
    monkeypatch.setenv("CESTA_COMMIT", "0123abc")
    assert find_commit() == "0123abc"
    monkeypatch.setenv("CESTA_COMMIT", "unknown")
    assert find_commit() is None


def test_a_checkout_makes_its_environments_with_make(cesta: Run) -> None:
    sentence = 'this cesta runs in a checkout, whose environments "make install" makes\n'
    assert cesta("install") == (1, "", sentence)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_is_printed_in_any_locale(encoding: str) -> None:
    """A letter that the locale lacks is written as its number."""
    words = [sys.executable, "-m", "operations.cli", "serve", "--help"]
    done = subprocess.run(words, env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"s3://\u2026" in done.stdout


def test_every_verb_that_makes_a_release_is_registered() -> None:
    """And no other: --help lists them in the order of MAKING."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [*project["entry-points"][cli.VERBS]] == [*cli.MAKING]


EXTRAS = [("etl", "etl"), ("train", "train"), ("demo", "train,demo")]


@pytest.mark.parametrize(("verb", "extra"), EXTRAS)
def test_a_verb_that_is_not_registered_says_so(
    cesta: Run, monkeypatch: pytest.MonkeyPatch, verb: str, extra: str
) -> None:
    """The metadata of an older installation in the working folder hides the entry points."""
    monkeypatch.setattr(cli, "entry_points", lambda group: [])
    sentence = (
        f'"cesta {verb}" is not installed here: no package registers it; '
        f'run it where cesta[{extra}] is installed (in a checkout: "make install")\n'
    )
    assert cesta(verb, "--out", "x") == (1, "", sentence)


@pytest.mark.parametrize(("verb", "extra"), EXTRAS)
def test_a_verb_whose_libraries_are_missing_names_its_extra(
    cesta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, extra: str
) -> None:
    """The modules of this project are loaded anew, without pandas."""
    loaded = {name for name in sys.modules if name.partition(".")[0] in {"export_scripts", "pandas"}}
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "data").mkdir()
    sentence = f"this command needs pandas; run: pip install 'cesta[{extra}]'\n"
    assert cesta(verb, "--out", tmp_path) == (1, "", sentence)


def test_a_verb_of_a_module_that_is_gone_says_so(cesta: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata of an older installation names a module that has moved; the other verbs go on working."""
    gone = EntryPoint("train", "export_scripts.gone:train", cli.VERBS)
    monkeypatch.setattr(cli, "entry_points", lambda group: [gone])
    assert "there is no module export_scripts.gone; " in cesta("train")[2]
    assert cesta("--help")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["train", "--bogus"], "No such option: --bogus"),
    ],
)
def test_unknown_words_of_the_command_line_are_named(cesta: Run, words: list[str], message: str) -> None:
    status, _, err = cesta(*words)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("train", 'no prepared data in {out}/data; run "cesta etl" first'),
        ("evaluate", 'no prepared data in {out}/data; run "cesta etl" first'),
        ("export", 'no prepared data in {out}/data; run "cesta etl" first'),
        ("publish", 'no run in {out}/run (manifest.json is missing); run "cesta export" first'),
    ],
)
def test_a_stage_too_early_names_the_one_before(cesta: Run, tmp_path: Path, stage: str, message: str) -> None:
    """It leaves nothing behind."""
    assert cesta(stage, "--out", tmp_path) == (1, "", message.format(out=tmp_path) + "\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.seed", "--set train.seed: write it as table.key=value, e.g. --set train.seed=8"),
        ("train.sed=8", 'unknown key "sed" in table [train]; did you mean "seed"?'),
        ("tain.seed=8", 'unknown table "tain" in the settings; did you mean "train"?'),
        ("train.seed=eight", "train.seed: Input should be a valid integer"),
        ("train.seed.x=8", "train.seed: Input should be a valid integer"),
        ("train.hidden=[]", "train.hidden: Tuple should have at least 1 item"),
        ("train=8", "train: Input should be a valid dictionary"),
        ("=8", 'unknown table ""'),
        ("train.=8", 'unknown key "" in table [train]'),
    ],
)
def test_a_wrong_set_is_explained(cesta: Run, tmp_path: Path, change: str, message: str) -> None:
    status, out, err = cesta("train", "--out", tmp_path, "--set", change)
    assert (status, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("0.5", 0.5),
        ("[48, 16]", [48, 16]),
        ("true", True),
        ("customer", "customer"),
        ("a=b", "a=b"),
    ],
)
def test_values_are_read_as_json_or_text(monkeypatch: pytest.MonkeyPatch, text: str, value: object) -> None:
    """A text needs no quotes, and may hold a second equals sign."""
    taken: dict[str, Any] = {}
    monkeypatch.setattr(options, "load_settings", lambda path, overrides: taken.update(overrides))
    options.chosen_settings(None, changes=[f"table.key={text}"])
    assert taken["table.key"] == value


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (None, []),
        (["a"], ["a"]),
        (["a,b", "c"], ["a", "b", "c"]),
        ([" a , b,, "], ["a", "b"]),
        (['"Milk, 2%",b', "c"], ["Milk, 2%", "b", "c"]),
        (['a, "Milk, 2%"'], ["a", "Milk, 2%"]),
        (['"5"" nails, long"'], ['5" nails, long']),
        (['5" nails'], ['5" nails']),
        (['"two\nlines"'], ["two\nlines"]),
    ],
)
def test_ids_are_read_as_csv(values: list[str] | None, ids: list[str]) -> None:
    """An id with a comma is put in quotes; without quotes a comma separates two ids."""
    assert read_ids("--basket", values) == ids


@pytest.mark.parametrize("value", ['"Milk, 2%', '"Milk, 2%" b', "two\nlines"])
def test_ids_that_are_no_csv_are_refused_with_an_example(cesta: Run, value: str) -> None:
    status, out, err = cesta("ask", "--exclude", value)
    assert (status, out) == (1, "")
    assert f"--exclude {value} cannot be read" in err
    assert """'"Milk, 2%",b'""" in err


@pytest.mark.parametrize(
    ("content", "what"), [(None, "No such file"), (b"\xff", "no text"), (b"\n", "is empty")]
)
def test_a_key_file_without_a_key_is_named(
    cesta: Run, tmp_path: Path, content: bytes | None, what: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    status, _, err = cesta("ask", "--key-file", str(file))
    assert status == 1
    assert str(file) in err
    assert what in err


def test_relative_tables_count_from_the_working_folder(
    cesta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place of pipeline.toml does not matter."""
    make_shop(tmp_path / "shop", np.random.default_rng(0), baskets=20)
    monkeypatch.chdir(tmp_path / "shop")
    files = ("--transactions", "transactions.csv", "--products", "products.csv")
    status, out, _ = cesta("etl", *files, "--out", "o")
    assert status == 0
    assert Path(out.strip().splitlines()[-1]).name == "data"
    assert json.loads(Path("o/data/meta.json").read_text())["counts"]["baskets"] == 20


def test_missing_tables_are_named(cesta: Run, tmp_path: Path) -> None:
    status, _, err = cesta("build", "--transactions", tmp_path / "none.csv", "--out", tmp_path / "o")
    assert status == 1
    assert "no such file" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "o/x"),
            "o/x: No space left on device; free some space\n",
        ),
        (
            OSError("720 requested and 0 written"),
            "the output: 720 requested and 0 written; free some space\n",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "o"),
            "o: Read-only file system; the file system is read-only: mount it writable, or choose another "
            "folder\n",
        ),
    ],
)
def test_a_refusal_of_the_disk_is_explained(
    cesta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    """The disk is full (numpy says so without a number), or the folder cannot be written."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("operations.releases.publish.publish", refuse)
    assert cesta("publish", "--out", tmp_path) == (1, "", message)


VERBS = ["list", "show 1", "verify 1", "diff 1 2", "promote 1", "canary 1", "rollback", "retire", "sign 1"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("made", [False, True])
def test_a_repository_without_releases_is_named(cesta: Run, tmp_path: Path, verb: str, made: bool) -> None:
    """The path has a typing error, or nothing was published there: every verb gives one sentence."""
    place = tmp_path / "typo"
    if made:
        place.mkdir()
    offline = ["--offline"] if verb.split()[0] in ("promote", "canary", "rollback", "retire") else []
    sentence = f'no repository in {place}; run "cesta publish" first, or give --repository\n'
    assert cesta("release", *verb.split(), "--repository", place, *offline) == (1, "", sentence)


def test_an_output_folder_that_cannot_be_made_is_named(cesta: Run, tmp_path: Path) -> None:
    """--out lies below a file."""
    (tmp_path / "file").touch()
    tables = make_shop(tmp_path / "shop", np.random.default_rng(0), baskets=20)
    status, _, err = cesta("build", "--transactions", tables.transactions, "--out", tmp_path / "file" / "x")
    assert status == 1
    assert "Not a directory" in err
    assert "Traceback" not in err


def test_a_relative_repository_of_a_stack_counts_from_the_working_folder(
    cesta: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor runs in another folder. A bucket's address stays as it is."""
    served: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("operations.stack.serve_stack", lambda out, repository, *_: served.append(repository))
    for repository in ("mine/repository", "s3://bucket/shop"):
        assert cesta("stack", "--repository", repository) == (0, "", "")
    assert served == [str(tmp_path / "mine" / "repository"), "s3://bucket/shop"]


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("operations.cli.make_app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
