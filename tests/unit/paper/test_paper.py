"""`cesta paper`: its training data, its measure, and the separation of both."""

import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from export_scripts.paper import measure as command
from export_scripts.paper.files import Protocol
from export_scripts.paper.measure import (
    GMF,
    HISTORY,
    MLP,
    NEUMF,
    POPULARITY,
    PRETRAINED,
    Report,
    fit_all,
    new_model,
    pretrained,
    print_report,
)
from export_scripts.paper.training import (
    Deadline,
    draw_negatives,
    fit,
    make_examples,
    make_test_questions,
    make_validation_questions,
    measure_quality,
    rank_of_first,
    score,
)
from export_scripts.settings import PaperSettings, load_settings

USERS = 200
SMALL = {
    "paper.gmf_dimensions": 8,
    "paper.mlp_dimensions": 8,
    "paper.hidden": [16, 8],
    "paper.history": 4,
    "paper.batch_size": 128,
    "paper.epochs": 25,
    "paper.patience": 25,
    "paper.l2": 0.001,
    "paper.learning_rate": 0.02,
}


def settings(**changes: object) -> PaperSettings:
    return load_settings(overrides=SMALL | {f"paper.{k}": v for k, v in changes.items()}).paper


def tastes(seed: int = 1, swap: bool = False) -> Protocol:
    """200 users of four tastes over 120 items, 30 to a taste: each took nine of them, and a tenth is the
    test. Negatives are of the other tastes. ``swap`` exchanges the truth with the first negative.
    """
    rng = np.random.default_rng(seed)
    taken = np.array([1 + 30 * (user % 4) + rng.permutation(30)[:10] for user in range(USERS)])
    others = (
        np.array(
            [
                rng.permutation(np.setdiff1d(np.arange(120), 30 * (u % 4) + np.arange(30)))[:50]
                for u in range(USERS)
            ]
        )
        + 1
    )
    test, negatives = taken[:, 9].copy(), others.copy()
    if swap:
        test, negatives[:, 0] = others[:, 0], taken[:, 9]
    users = np.arange(1, USERS + 1)
    return Protocol(
        users=np.repeat(users, 9),
        items=taken[:, :9].ravel(),
        times=np.tile(np.arange(9.0), USERS),
        test_users=users,
        test_items=test,
        negatives=negatives,
        n_users=USERS + 1,
        n_items=121,
    )


def one_user(items: Sequence[int], times: Sequence[float]) -> Protocol:
    """User 1 with these items; item 9 is the test item, against 7 and 8."""
    n = len(items)
    return Protocol(
        np.ones(n, int),
        np.array(items),
        np.array(times, float),
        np.array([1]),
        np.array([9]),
        np.array([[7, 8]]),
        2,
        10,
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as the command does."""
    with command.use_one_thread():
        yield


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_last_item_by_time_is_held_out() -> None:
    """The order of the file does not matter."""
    examples = make_examples(one_user([4, 5, 6], [30, 10, 20]), rng())
    assert examples.items[examples.held_out].tolist() == [4]
    assert examples.items[examples.training].tolist() == [5, 6]


def test_among_equal_times_a_random_item_is_held_out() -> None:
    """A file sorted by item would otherwise hold out the same kind of item for everybody."""
    same = one_user([4, 5, 6], [0, 0, 0])
    held_out = {int(make_examples(same, np.random.default_rng(seed)).items[[2]].item()) for seed in range(20)}
    assert held_out == {4, 5, 6}


def test_a_users_only_item_is_trained_on() -> None:
    """If it were held out, nothing would be left to know the user by."""
    examples = make_examples(one_user([4], [1]), rng())
    assert examples.training.tolist() == [0]
    assert len(examples.held_out) == 0


def test_history_is_what_came_before() -> None:
    """The positive itself is never in the basket that predicts it, nor is another user's item."""
    examples = make_examples(tastes(), rng())
    everything = np.arange(len(examples.users))
    baskets = examples.history(everything, 10)
    assert not (baskets == examples.items[:, None]).any()
    assert (baskets > 0).sum(1).tolist() == [*range(9)] * USERS
    third = 2  # of user 1: latest first, then padding
    assert baskets[third].tolist() == [examples.items[1], examples.items[0], *[0] * 8]


def test_the_tests_history_is_the_whole_training_file() -> None:
    """The latest comes first. A user without training items has none."""
    protocol = one_user([4, 5, 6], [30, 10, 20])
    examples = make_examples(protocol, rng())
    assert make_test_questions(protocol, examples, 2).baskets.tolist() == [[4, 6]]
    stranger = Protocol(**{**vars(protocol), "test_users": np.array([2]), "n_users": 3})
    assert make_test_questions(stranger, make_examples(stranger, rng()), 2).baskets.tolist() == [[0, 0]]


def test_validation_never_shows_its_answer() -> None:
    """The answer is neither in the history nor among the negatives, and no training item is a negative."""
    examples = make_examples(tastes(), rng())
    questions = make_validation_questions(examples, 4, rng())
    met = examples.met(np.arange(len(examples.users)))
    assert questions.candidates[:, 0].tolist() == examples.items[examples.held_out].tolist()
    assert not (questions.baskets == questions.candidates[:, :1]).any()
    assert not met[questions.users[:, None], questions.candidates[:, 1:]].any()


def test_negatives_are_uniform_over_what_the_user_never_met() -> None:
    """User 1 never met items 3 and 4. The held-out item may be drawn, and so may the test item."""
    met = np.zeros((2, 5), bool)
    met[1, [0, 1, 2]] = True
    drawn = draw_negatives(met, np.ones(1000, int), 4, rng())
    assert set(np.unique(drawn).tolist()) == {3, 4}
    assert abs((drawn == 3).mean() - 0.5) < 0.03
    examples = make_examples(tastes(), rng())
    assert not examples.met(examples.training)[
        examples.users[examples.held_out], examples.items[examples.held_out]
    ].any()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([3, 1, 2], 0), ([1, 3, 2], 2), ([1, 1, 0], 0.5), ([0, 0, 0], 1), ([np.nan, 1, 2], 2)],
)
def test_a_tie_is_half_a_loss(scores: list[float], expected: float) -> None:
    """A tie is half a loss, and a score that is not a number beats nothing."""
    assert rank_of_first(np.array([scores], np.float32)).tolist() == [expected]


def test_a_constant_scorer_gains_nothing() -> None:
    """The rank is 49.5 among 99 negatives."""
    examples = make_examples(tastes(), rng())
    questions = make_validation_questions(examples, 0, rng())
    model = new_model(GMF, examples, settings())
    torch.nn.init.zeros_(model.user_gmf.weight)
    assert measure_quality(model, questions) == (0, 0)


def test_gmf_is_the_papers_equation() -> None:
    """h · (p_u ⊙ q_i), eq. 9, plus the item's bias: the product's network with nothing else in it."""
    examples = make_examples(tastes(), rng())
    model = new_model(GMF, examples, settings())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        scores = score(model, np.array([3]), np.zeros((1, 0), int), np.array([[5, 8]])).numpy()[0]
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    p, q, h = w["user_gmf.weight"][3], w["item_gmf.weight"][[5, 8]], w["gmf_weights"]
    np.testing.assert_allclose(scores, (p * q) @ h + w["item_bias.weight"][[5, 8], 0], rtol=1e-4)


@pytest.mark.parametrize("name", [MLP, NEUMF])
def test_the_mlp_is_a_part_of_the_other_two(name: str) -> None:
    model = new_model(name, make_examples(tastes(), rng()), settings())
    assert model.shape.gmf == (0 if name == MLP else 8)
    assert model.shape.hidden == (16, 8)


def test_pre_training_starts_at_the_mean_of_both() -> None:
    """Eq. 13 with α = 0.5: weights are copied, not drawn anew."""
    examples = make_examples(tastes(), rng())
    gmf, mlp = (new_model(name, examples, settings()) for name in (GMF, MLP))
    for parameter in [*gmf.parameters(), *mlp.parameters()]:
        torch.nn.init.normal_(parameter)
    query = np.array([3, 4]), np.zeros((2, 0), int), np.array([[5, 8], [1, 2]])
    with torch.no_grad():
        expected = (score(gmf, *query) + score(mlp, *query)) / 2
        torch.testing.assert_close(score(pretrained(gmf, mlp), *query), expected, rtol=1e-4, atol=1e-4)


def test_pre_training_keeps_the_better_of_start_and_end() -> None:
    """Epoch 0 counts: fine-tuning that only harms is undone."""
    examples, patient = make_examples(tastes(), rng()), settings(patience=1)
    validation = make_validation_questions(examples, 0, rng())
    trained = fit(new_model(GMF, examples, patient), examples, validation, patient, Deadline(60), "x", 0.02)
    start = trained.validation
    again = fit(trained.model, examples, validation, patient, Deadline(60), "x", 5.0)
    assert again.validation[1] >= start[1]
    assert measure_quality(again.model, validation) == again.validation


@pytest.fixture(scope="module")
def fitted() -> dict[str, command.FittedModel]:
    examples = make_examples(tastes(), np.random.default_rng(settings().seed))
    return dict(fit_all(examples, settings(), Deadline(300)))


@pytest.mark.parametrize("name", [GMF, MLP, NEUMF, PRETRAINED, HISTORY])
def test_every_model_learns_the_tastes(fitted: dict[str, command.FittedModel], name: str) -> None:
    """Popularity is no help: only the truth is of the user's taste."""
    protocol = tastes()
    examples = make_examples(protocol, np.random.default_rng(settings().seed))
    history = settings().history if name == HISTORY else 0
    questions = make_test_questions(protocol, examples, history)
    popular = gains_of(command.popularity_ranks(protocol))
    assert measure_quality(fitted[name].model, questions)[1] > popular + 0.2


def gains_of(ranks: np.ndarray) -> float:
    return float(command.gains(ranks)[:, 1].mean())


def test_the_test_file_chooses_nothing() -> None:
    """With another item as the truth, every model, its epoch and its hold-out figures are the same."""
    three_epochs = settings(epochs=3)
    one, other = (
        dict(fit_all(make_examples(tastes(swap=swap), rng()), three_epochs, Deadline(300)))
        for swap in (False, True)
    )
    for name, fitted in other.items():
        assert (fitted.epoch, fitted.validation) == (one[name].epoch, one[name].validation)
        for key, tensor in fitted.model.state_dict().items():
            assert torch.equal(tensor, one[name].model.state_dict()[key]), key


def test_the_time_limit_is_kept_and_reported() -> None:
    """A limit of zero trains one batch, and the table says that training was cut short."""
    protocol, small_batches = tastes(), settings(batch_size=8)
    fitted = dict(fit_all(make_examples(protocol, rng()), small_batches, Deadline(0)))
    assert all(f.cut and f.epochs == 1 for f in fitted.values())
    rows = tuple(command.Row(name, 0.5, 0.25, f) for name, f in fitted.items())
    text = printed(Report(protocol, rows, 0.01))
    assert "paper.minutes = 0.01 cut these short: GMF; MLP" in text


def printed(report: Report) -> str:
    text = StringIO()
    print_report(report, Console(width=110, file=text))
    return text.getvalue()


def write(folder: Path, protocol: Protocol, shift: int = 0) -> dict[str, Path]:
    """Write the protocol as the paper's files; ids are moved and have gaps."""
    paths = {name: folder / name for name in ("train", "test", "negatives")}

    def line(user: int, item: int, when: float) -> str:
        return f"{3 * user + shift}\t{5 * item + shift}\t4.0\t{when:.0f}\n"

    rows = zip(protocol.users, protocol.items, protocol.times, strict=True)
    paths["train"].write_text("".join(line(*row) for row in rows))
    tested = list(zip(protocol.test_users, protocol.test_items, strict=True))
    paths["test"].write_text("".join(line(user, item, 99) for user, item in tested))
    paths["negatives"].write_text(
        "".join(
            "\t".join([f"({3 * user + shift},{5 * item + shift})", *(str(5 * j + shift) for j in row)]) + "\n"
            for (user, item), row in zip(tested, protocol.negatives, strict=True)
        )
    )
    return paths


def test_the_same_command_prints_the_same_table(tmp_path: Path) -> None:
    """Only the seconds differ. Ids are only names, so moving them changes nothing."""
    tables = []
    for shift in (0, 0, 1000):
        chosen = load_settings(overrides=SMALL | {"paper.epochs": 2})
        report = command.paper(chosen, **write(tmp_path, tastes(), shift))
        assert [row.name for row in report.rows] == [POPULARITY, GMF, MLP, NEUMF, PRETRAINED, HISTORY]
        rows = [(row.name, row.hr, row.ndcg, row.fitted and row.fitted.epoch) for row in report.rows]
        tables.append(rows)
    assert tables[0] == tables[1] == tables[2]
    text = printed(report)
    assert "not on these files" in text
    assert re.search(r"popularity.*0\.453.*0\.254", text)
