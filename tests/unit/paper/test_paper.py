"""`cesta paper` as a whole: its models, its tables, and the separation of training and test."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from export_scripts.paper import measure as command
from export_scripts.paper.examples import (
    make_examples,
    make_test_questions,
    make_validation_questions,
    measure_quality,
    score,
)
from export_scripts.paper.files import Protocol, read_protocol
from export_scripts.paper.generated import write_files
from export_scripts.paper.measure import POPULARITY, Report, Row
from export_scripts.paper.models import (
    GMF,
    HISTORY,
    MLP,
    NAMES,
    NEUMF,
    PRETRAINED,
    draw_candidates,
    fit_all,
    new_model,
    pretrained,
)
from export_scripts.paper.search import FittedModel
from export_scripts.paper.table import print_report
from export_scripts.paper.trainers import Choice, Deadline
from export_scripts.settings import load_settings
from operations.errors import CestaError
from tests.building.tastes import SMALL, rng, settings, tastes


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as the command does."""
    with command.use_one_thread():
        yield


def test_the_first_candidate_is_the_middle_and_all_are_within_the_ranges() -> None:
    shipped = load_settings().paper
    first, *others = draw_candidates(GMF, shipped)
    assert first.rate == pytest.approx((shipped.gmf_rates[0] * shipped.gmf_rates[1]) ** 0.5)
    assert len(others) == shipped.candidates - 1
    assert len({choice.gmf for choice in others}) > 1
    assert all(shipped.l2[0] <= choice.gmf_l2 <= shipped.l2[1] for choice in others)
    assert draw_candidates(GMF, shipped) == [first, *others]


def test_a_range_ascends() -> None:
    with pytest.raises(CestaError, match=r"0\.3 is above 0\.2: write the smaller one first"):
        settings(rates=[0.3, 0.2])


def test_training_starts_at_popularity() -> None:
    """With vectors of length 0 the bias ranks by sales, in the odds of the examples."""
    examples = make_examples(tastes(), rng())
    bias = new_model(Choice(0.1, 4, gmf=8), examples, 7).item_bias.weight.detach().numpy()[:, 0]
    counts = np.bincount(examples.items[examples.training], minlength=examples.n_items)
    assert (np.argsort(bias[1:], kind="stable") == np.argsort(counts[1:], kind="stable")).all()


def test_pre_training_starts_at_the_weighted_sum() -> None:
    """Eq. 13: weights are copied, not drawn anew."""
    examples = make_examples(tastes(), rng())
    gmf, mlp = (new_model(choice, examples, 7) for choice in (Choice(1, 4, gmf=8), Choice(1, 4, mlp=8)))
    for parameter in [*gmf.parameters(), *mlp.parameters()]:
        torch.nn.init.normal_(parameter)
    query = np.array([3, 4]), np.zeros((2, 0), int), np.array([[5, 8], [1, 2]])
    with torch.no_grad():
        expected = 0.3 * (score(gmf, *query) + 2) + 0.7 * score(mlp, *query)
        torch.testing.assert_close(
            score(pretrained(gmf, mlp, 0.3, 2), *query), expected, rtol=1e-4, atol=1e-4
        )


@pytest.fixture(scope="module")
def fitted() -> dict[str, FittedModel]:
    return fit_all(make_examples(tastes(), np.random.default_rng(7)), settings(), Deadline(300))


@pytest.mark.parametrize("name", [GMF, PRETRAINED])
def test_models_learn_the_tastes(fitted: dict[str, FittedModel], name: str) -> None:
    """Popularity is no help: only the truth is of the user's taste. Both trainings learn."""
    protocol = tastes()
    questions = make_test_questions(protocol, make_examples(protocol, np.random.default_rng(7)), 0)
    popular = float(command.gains(command.popularity_ranks(protocol))[:, 1].mean())
    assert fitted[name].whole
    for model in (fitted[name].model, fitted[name].held):
        assert measure_quality(model, questions)[1] > popular + 0.2


def test_neumf_takes_over_what_its_branches_chose(fitted: dict[str, FittedModel]) -> None:
    for name in (NEUMF, PRETRAINED, HISTORY):
        choice = fitted[name].choice
        assert (choice.gmf, choice.gmf_l2) == (fitted[GMF].choice.gmf, fitted[GMF].choice.gmf_l2)
        assert (choice.mlp, choice.mlp_l2) == (fitted[MLP].choice.mlp, fitted[MLP].choice.mlp_l2)
    assert fitted[PRETRAINED].choice.alpha in settings().alphas


def test_fine_tuning_keeps_the_better_of_start_and_end(fitted: dict[str, FittedModel]) -> None:
    """Epoch 0 counts: fine-tuning that only harms is undone."""
    examples = make_examples(tastes(), np.random.default_rng(7))
    validation = make_validation_questions(examples, 0, np.random.default_rng(7))
    gmf, mlp, both = (fitted[name] for name in (GMF, MLP, PRETRAINED))
    start = pretrained(gmf.held, mlp.held, both.choice.alpha or 0)
    assert both.validation[1] >= measure_quality(start, validation)[1]
    assert measure_quality(both.held, validation) == both.validation


def test_the_test_file_chooses_nothing() -> None:
    """With another item as the truth, every model, its settings and its hold-out figures are the same."""
    one, other = (
        fit_all(make_examples(tastes(swap=swap), rng()), settings(patience=1, candidates=1), Deadline(300))
        for swap in (False, True)
    )
    for name, model in other.items():
        assert (model.choice, model.rates, model.validation) == (
            one[name].choice,
            one[name].rates,
            one[name].validation,
        )
        for key, tensor in model.model.state_dict().items():
            assert torch.equal(tensor, one[name].model.state_dict()[key]), key


def test_the_time_limit_is_kept_and_reported() -> None:
    """A limit of zero trains nothing, and the table says that training was cut short."""
    protocol = tastes()
    models = fit_all(make_examples(protocol, rng()), settings(), Deadline(0))
    assert all(model.cut and model.epochs == 0 for model in models.values())
    rows = tuple(Row(name, 0.5, 0.25, model) for name, model in models.items())
    text = printed(Report(protocol, rows, 0.01))
    assert "paper.minutes = 0.01 cut these short: GMF; MLP" in text


def test_an_error_in_one_training_ends_both() -> None:
    """An invalid setting stands for any error; the other thread does not train on to its end."""
    broken = settings().model_copy(update={"batch_size": 0})
    with pytest.raises(ZeroDivisionError):
        fit_all(make_examples(tastes(), rng()), broken, Deadline(300))


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
    for shift in (0, 1000):
        chosen = load_settings(overrides=SMALL | {"paper.patience": 1, "paper.candidates": 3})
        report = command.paper(chosen, **write(tmp_path, tastes(), shift))
        assert [row.name for row in report.rows] == [POPULARITY, *NAMES]
        tables.append([(row.name, row.hr, row.ndcg, row.fitted and row.fitted.rates) for row in report.rows])
    assert tables[0] == tables[1]
    text = printed(report)
    assert "not on these files" in text
    assert re.search(r"popularity.*0\.453.*0\.254", text)
    assert re.search(r"GMF.* 3 .* 8 ", text)


def test_the_tables_tell_of_own_negatives() -> None:
    protocol = Protocol(**{**vars(tastes()), "own_negatives": 156})
    assert "156 test items stand among their own negatives" in printed(Report(protocol, (), 1))


def test_generated_files_are_read_like_the_papers(tmp_path: Path) -> None:
    """The numbers are exact, the last item is the test, and popularity ranks better than chance."""
    protocol = read_protocol(*write_files(tmp_path, users=100, items=300, ratings=3_000, seed=1))
    assert (len(protocol.users), protocol.n_users, len(protocol.test_users)) == (2_900, 101, 100)
    assert np.bincount(protocol.users)[1:].min() >= 19
    assert (protocol.repeats, protocol.own_negatives) == (0, 0)
    met = make_examples(protocol, rng()).met(np.arange(2_900))
    assert not met[protocol.test_users[:, None], protocol.negatives].any()
    assert command.gains(command.popularity_ranks(protocol))[:, 0].mean() > 0.15


def test_generated_files_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="100 users need 2000 to 20100 ratings, not 1000"):
        write_files(tmp_path, users=100, items=300, ratings=1_000, seed=1)
