"""The scorer learns the same to the last bit, whatever number of threads torch has."""

from collections.abc import Iterator

import pytest
import torch

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.scorer.fitting import fit
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import load_settings
from tests.model.training_under_load import ITEMS, USERS, WIDTH, examples


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_one_thread_learns_what_two_learn() -> None:
    """With tensors of the size of a real training: torch shares small ones with nobody."""
    settings = load_settings().train.model_copy(update={"epochs": 1})
    training, validation = examples(1024, 1), examples(64, 2)
    states = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        shape = NCFShape(USERS, ITEMS, training.features.shape[2], gmf=0, mlp=WIDTH, hidden=settings.hidden)
        model = NCF(shape)
        fit(model, training, validation, settings)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_more_cores_do_not_change_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """On some processors two threads give other last bits, so one is used."""
    used: set[int] = set()
    torch.set_num_threads(4)
    backward = torch.autograd.backward

    def noting(loss: torch.Tensor) -> None:
        used.add(torch.get_num_threads())
        backward(loss)

    monkeypatch.setattr(torch.autograd, "backward", noting)
    settings = load_settings().train.model_copy(update={"epochs": 1})
    shape = NCFShape(USERS, ITEMS, len(FEATURES), gmf=0, mlp=WIDTH, hidden=settings.hidden)
    fit(NCF(shape), examples(256, 1), examples(64, 2), settings)
    assert used == {1}
    assert torch.get_num_threads() == 4
