"""The NCF paper's files are read as the paper means them, or refused with line and way out."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from export_scripts.paper.files import Protocol, read_protocol
from operations.errors import CestaError

TRAIN = "1\t10\t5\t100\n1\t30\t3.5\t200\n4\t10\t1\t50\n"
TEST = "1\t20\t4\t300\n4\t30\t4\t300\n"
NEGATIVES = "(1,20)\t40\t50\n(4,30)\t50\t20\n"

Read = Callable[..., Protocol]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def run(train: str = TRAIN, test: str = TEST, negatives: str = NEGATIVES) -> Protocol:
        paths = [tmp_path / name for name in ("train", "test", "negatives")]
        for path, text in zip(paths, (train, test, negatives), strict=True):
            path.write_text(text, encoding="utf-8")
        return read_protocol(*paths)

    return run


def test_ids_become_rows_from_1(read: Read) -> None:
    """The users are 1 and 4, the items 10, 20, 30, 40 and 50; 20, 40 and 50 are never trained on."""
    protocol = read()
    assert protocol.users.tolist() == [1, 1, 2]
    assert protocol.items.tolist() == [1, 3, 1]
    assert protocol.times.tolist() == [100, 200, 50]
    assert (protocol.test_users.tolist(), protocol.test_items.tolist()) == ([1, 2], [2, 3])
    assert protocol.negatives.tolist() == [[4, 5], [5, 2]]
    assert (protocol.n_users, protocol.n_items, protocol.repeats) == (3, 6, 0)


def test_files_without_time_stamps_are_read(read: Read) -> None:
    """The paper's Pinterest files have none."""
    assert read(train="1\t10\t1\n1\t30\t1\n").times.tolist() == [0, 0]


def test_a_rating_of_0_is_none_and_a_second_rating_replaces_the_first(read: Read) -> None:
    protocol = read(train="1\t10\t0\t1\n4\t30\t2\t5\n4\t20\t1\t2\n4\t30\t2\t9\n")
    assert (protocol.users.tolist(), protocol.items.tolist(), protocol.times.tolist()) == (
        [2, 2],
        [1, 2],
        [2, 9],
    )
    assert protocol.repeats == 1


def test_an_item_stands_once_in_a_line_of_negatives(read: Read) -> None:
    """The authors' file has the test item among its negatives. Their code keeps one score for each item."""
    protocol = read(negatives="(1,20)\t40\t20\n(4,30)\t50\t50\n")
    assert protocol.negatives.tolist() == [[4, 0], [5, 0]]
    assert protocol.own_negatives == 1


def test_blank_lines_windows_lines_and_gz(read: Read, tmp_path: Path) -> None:
    plain = read()
    again = read(train=TRAIN.replace("\n", "\r\n") + "\r\n\n")
    assert again.items.tolist() == plain.items.tolist()
    packed = tmp_path / "train.gz"
    packed.write_bytes(gzip.compress(TRAIN.encode()))
    assert read_protocol(packed, tmp_path / "test", tmp_path / "negatives").items.tolist() == [1, 3, 1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ""}, "train has no ratings above 0"),
        ({"test": "\n"}, "test has no ratings;"),
        ({"train": "1,10,5,100\n"}, "train, line 1: 1 column, expected 3 or 4"),
        ({"train": TRAIN + "4\t30\t5\n"}, "train, line 4: 3 columns, expected 4 as above"),
        ({"train": "user\titem\trating\ttime\n" + TRAIN}, 'train, line 1: user "user" is not a number'),
        ({"train": "1\t1.5\t5\t100\n"}, 'train, line 1: item "1.5" is not a number'),
        ({"train": f"1\t{10**19}\t5\t100\n"}, 'item "10000000000000000000" is not a number'),
        ({"train": "1\t10\tgood\t100\n"}, 'train, line 1: "good" is not a number'),
        ({"train": "1\t10\t5\tnan\n"}, 'train, line 1: "nan" is not a number'),
        ({"train": "1\t10\t5\t1\n4\t10\t5\t1\n"}, "train: no user has two items"),
        (
            {"train": "".join(f"4\t{item}\t5\t1\n" for item in (10, 20, 30, 40, 50))},
            "train: user 4 has all 5 items, so there is no negative to draw",
        ),
        ({"test": TEST + "1\t50\t4\t300\n"}, "test, line 3: user 1 already has a test line"),
        ({"negatives": ""}, "negatives ends after 0 of the 2 users in test: no negatives for user 1"),
        ({"negatives": "(1,20)\t40\t50\n"}, "negatives ends after 1 of the 2 users in test"),
        ({"negatives": NEGATIVES + "(9,30)\t50\t20\n"}, "negatives, line 3: user 9 has no line in test"),
        ({"negatives": NEGATIVES + "(4,30)\t50\t20\n"}, "negatives, line 3: test has only 2 lines"),
        (
            {"negatives": "(4,30)\t50\t20\n(1,20)\t40\t50\n"},
            "(4,30) does not match (1,20) in line 1 of test; put both files into the same order",
        ),
        ({"negatives": "(1,21)\t40\t50\n"}, "(1,21) does not match (1,20) in line 1 of test"),
        ({"negatives": "(1,20)\t40\t50\n(4,30)\t50\n"}, "line 2: 1 negatives, the lines above have 2"),
        ({"negatives": "(1,20)\n"}, "line 1: no negatives after the pair"),
        ({"negatives": "1\t20\t40\n"}, 'line 1: it starts with "1"; write (user,item)'),
        ({"negatives": "(1,20)\tx\n"}, 'line 1: item "x" is not a number'),
    ],
)
def test_a_file_of_another_format_is_refused(read: Read, files: dict[str, str], message: str) -> None:
    """The sentence has file, line, problem, and after a semicolon or colon the way out."""
    with pytest.raises(CestaError) as error:
        read(**files)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(read: Read, tmp_path: Path) -> None:
    """The file is missing, a folder, not text, or a .gz that is not gzip."""
    read()
    rest = tmp_path / "test", tmp_path / "negatives"
    with pytest.raises(CestaError, match="nowhere cannot be read: No such file"):
        read_protocol(tmp_path / "nowhere", *rest)
    with pytest.raises(CestaError, match="cannot be read: Is a directory"):
        read_protocol(tmp_path, *rest)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CestaError, match="binary is not text"):
        read_protocol(tmp_path / "binary", *rest)
    (tmp_path / "plain.gz").write_text(TRAIN)
    with pytest.raises(CestaError, match=r"plain\.gz cannot be read: Not a gzipped file"):
        read_protocol(tmp_path / "plain.gz", *rest)
