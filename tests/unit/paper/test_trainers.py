"""One epoch of training, by the compiled loop and by batches."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from export_scripts.paper.examples import (
    Examples,
    make_examples,
    make_validation_questions,
    measure_quality,
    score,
)
from export_scripts.paper.measure import use_one_thread
from export_scripts.paper.models import new_model
from export_scripts.paper.trainers import Choice, Deadline, FactorTrainer, L2Penalty, make_trainer
from tests.building.tastes import one_user, rng, tastes

GMF, MLP = Choice(0.1, 4, gmf=8, gmf_l2=0.01), Choice(0.01, 4, mlp=8, mlp_l2=0.01)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as the command does: two would wait for each other on a busy machine."""
    with use_one_thread():
        yield


@pytest.fixture(scope="module")
def examples() -> Examples:
    return make_examples(tastes(), rng())


def test_gmf_is_the_papers_equation(examples: Examples) -> None:
    """h · (p_u ⊙ q_i), eq. 9, plus the item's bias: the product's network with nothing else in it."""
    model = new_model(GMF, examples, 7)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        scores = score(model, np.array([3]), np.zeros((1, 0), int), np.array([[5, 8]])).numpy()[0]
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    p, q, h = w["user_gmf.weight"][3], w["item_gmf.weight"][[5, 8]], w["gmf_weights"]
    np.testing.assert_allclose(scores, (p * q) @ h + w["item_bias.weight"][[5, 8], 0], rtol=1e-4)


def test_a_step_of_gmf_is_the_gradient_of_one_example() -> None:
    """p += rate ((1 - σ(p·q + b)) q - l2 p), the same for q with the old p; the bias has no L2."""
    examples = make_examples(one_user([4, 5], [1, 2]), rng())  # learns from item 4, holds out item 5
    choice = Choice(0.5, 0, gmf=2, gmf_l2=0.1)
    model = new_model(Choice(0.5, 1, gmf=2), examples, 7)
    p, q, b = (t.weight.detach().numpy() for t in (model.user_gmf, model.item_gmf, model.item_bias))
    p[1], q[4], b[4] = [1, 0], [2, 3], 0.5
    slope = 1 - 1 / (1 + np.exp(-2.5))
    assert FactorTrainer(model, examples, choice).train_epoch(0.5, rng(), Deadline(60))
    np.testing.assert_allclose(p[1], [1 + 0.5 * (2 * slope - 0.1), 0.5 * 3 * slope], rtol=1e-5)
    np.testing.assert_allclose(q[4], [2 + 0.5 * (slope - 0.2), 3 - 0.5 * 0.3], rtol=1e-5)
    np.testing.assert_allclose(b[4], 0.5 + 0.5 * slope, rtol=1e-5)


def test_l2_counts_the_uses_of_a_vector() -> None:
    """User 1 is in every example. Item 4 is the positive; one negative is drawn from all ten rows."""
    examples = make_examples(one_user([4, 5], [1, 2]), rng())
    choice = Choice(0.5, 1, gmf=1, gmf_l2=0.1)
    model = new_model(choice, examples, 7)
    torch.nn.init.zeros_(model.user_gmf.weight)
    torch.nn.init.zeros_(model.item_gmf.weight)
    with torch.no_grad():
        model.user_gmf.weight[1] = 3.0
        assert L2Penalty(model, examples, choice)(model).item() == pytest.approx(0.1 / 2 * 9)
        model.user_gmf.weight[1] = 0.0
        model.item_gmf.weight[4] = 3.0
        assert L2Penalty(model, examples, choice)(model).item() == pytest.approx(0.1 / 2 * 9 * 1.1 / 2)


@pytest.mark.parametrize("choice", [GMF, MLP])
def test_training_goes_on_from_a_state_as_it_did_before(choice: Choice, examples: Examples) -> None:
    """The optimizer's memory is part of the state, and training on does not change the copy."""
    trainer = make_trainer(new_model(choice, examples, 7), examples, choice, 256, 0)
    trainer.train_epoch(choice.rate, rng(), Deadline(60))
    state, results = trainer.state(), []
    for _ in range(2):
        trainer.restore(state)
        trainer.train_epoch(choice.rate, rng(), Deadline(60))
        results.append(trainer.model.item_bias.weight.detach().clone())
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert not torch.equal(results[0], new_model(choice, examples, 7).item_bias.weight)


@pytest.mark.parametrize("choice", [GMF, MLP])
def test_the_deadline_ends_an_epoch(choice: Choice, examples: Examples) -> None:
    """A stopped deadline ends its shares too, so that Ctrl-C ends both threads."""
    trainer = make_trainer(new_model(choice, examples, 7), examples, choice, 256, 0)
    assert not trainer.train_epoch(choice.rate, rng(), Deadline(0))
    deadline = Deadline(60)
    share = deadline.share(0.5)
    assert 29 < share.seconds_left <= 30
    deadline.stop()
    assert not trainer.train_epoch(choice.rate, rng(), share)


@pytest.mark.parametrize(("gmf", "history"), [(0, 0), (8, 4)])
def test_networks_learn_the_tastes(gmf: int, history: int, examples: Examples) -> None:
    """MLP alone, and NeuMF with a basket. The start is popularity, which is no help here."""
    choice = Choice(0.01, 4, gmf=gmf, gmf_l2=0.0002, mlp=32, mlp_l2=0.0002)
    model = new_model(choice, examples, 7)
    questions = make_validation_questions(examples, history, rng())
    start = measure_quality(model, questions)[1]
    trainer = make_trainer(model, examples, choice, 128, history)
    best = 0.0
    for epoch in range(25):
        rate = choice.rate * (1 - epoch / 25)
        assert trainer.train_epoch(rate, np.random.default_rng(epoch), Deadline(300))
        best = max(best, measure_quality(model, questions)[1])
    assert best > start + 0.15
