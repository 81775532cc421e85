"""The paper's models: how each starts, its candidates, and the order in which they are trained.

Two threads train at a time. GMF (generalised matrix factorisation) and MLP (multi-layer perceptron) come
first. Their sum, NeuMF (neural matrix factorisation), takes over their widths and L2 terms, and starts from
noise or from both. In the same time the other thread trains NeuMF with a basket of the user's latest items.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn

from export_scripts.paper.examples import Examples, Questions, make_validation_questions, measure_quality
from export_scripts.paper.search import FittedModel, Judge, choose_and_fit, with_rates
from export_scripts.paper.trainers import Choice, Deadline, Trainer, make_trainer
from export_scripts.progress import Progress
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import PaperSettings

GMF, MLP = "GMF", "MLP"
NEUMF, PRETRAINED, HISTORY = "NeuMF", "NeuMF, pre-trained", "NeuMF + history"
NAMES = (GMF, MLP, NEUMF, PRETRAINED, HISTORY)

FOR_BRANCHES = 0.5  # of the time, for GMF and MLP; what they leave goes to the others
FOR_NEUMF = 0.5  # of the rest, for NeuMF from noise; the pre-trained one gets what it leaves
THREADS = 2
START_STD = 0.1  # of GMF's vectors, as in Rendle et al. 2020

_seeding = Lock()  # torch has one generator for all threads


class Training:
    """The data and the settings that the trainings of all models share."""

    def __init__(self, examples: Examples, settings: PaperSettings):
        self.settings = settings
        self._examples, self._whole = examples, examples.whole()
        self._validation = self._make_validation(0)

    def fit_branch(self, name: str, deadline: Deadline) -> FittedModel:
        """Choose and train GMF or MLP."""
        candidates = draw_candidates(name, self.settings)
        return self._fit(name, candidates, self.settings.first_epochs, deadline)

    def fit_neumf(self, gmf: Choice, mlp: Choice, deadline: Deadline) -> FittedModel:
        candidates = with_rates(join(gmf, mlp), _around(mlp.rate))
        return self._fit(NEUMF, candidates, self.settings.first_epochs, deadline)

    def fit_history(self, gmf: Choice, mlp: Choice, deadline: Deadline) -> FittedModel:
        candidates = with_rates(join(gmf, mlp), _around(mlp.rate))
        return self._fit(
            HISTORY, candidates, self.settings.first_epochs, deadline, history=self.settings.history
        )

    def fit_pretrained(self, gmf: FittedModel, mlp: FittedModel, deadline: Deadline) -> FittedModel:
        """Choose α by the starts that it makes, then the rate of fine-tuning."""
        base = join(gmf.choice, mlp.choice)
        quality = {
            alpha: measure_quality(pretrained(gmf.held, mlp.held, alpha), self._validation)[1]
            for alpha in self.settings.alphas
        }
        best = max(quality, key=lambda alpha: quality[alpha])
        low, high = self.settings.fine_tuning_rates
        shift = math.log(gmf.choice.negatives / mlp.choice.negatives)
        candidates = with_rates(replace(base, alpha=best), (math.sqrt(low * high), low, high))
        return self._fit(
            PRETRAINED,
            candidates,
            1,
            deadline,
            start=lambda alpha: pretrained(gmf.held, mlp.held, alpha, shift),
            start_again=lambda alpha: pretrained(gmf.model, mlp.model, alpha, shift),
        )

    def _fit(
        self,
        name: str,
        candidates: Sequence[Choice],
        epochs: int,
        deadline: Deadline,
        history: int = 0,
        start: Callable[[float], NCF] | None = None,
        start_again: Callable[[float], NCF] | None = None,
    ) -> FittedModel:
        def trainer(choice: Choice, examples: Examples, started: Callable[[float], NCF] | None) -> Trainer:
            model = (
                new_model(choice, examples, self.settings.seed)
                if started is None or choice.alpha is None
                else started(choice.alpha)
            )
            return make_trainer(model, examples, choice, self.settings.batch_size, history)

        validation = self._make_validation(history) if history else self._validation
        return choose_and_fit(
            name,
            Judge(lambda choice: trainer(choice, self._examples, start), validation, self.settings.seed),
            lambda choice: trainer(choice, self._whole, start_again),
            candidates,
            epochs,
            self.settings.patience,
            deadline,
        )

    def _make_validation(self, history: int) -> Questions:
        rng = np.random.default_rng(self.settings.seed)
        return make_validation_questions(self._examples, history, rng)


def fit_all(examples: Examples, settings: PaperSettings, deadline: Deadline) -> dict[str, FittedModel]:
    """Choose and train every model, by the name of its row. The test file is not passed in."""
    training = Training(examples, settings)
    with Progress("paper", round(60 * settings.minutes)) as bar, ThreadPoolExecutor(THREADS) as threads:
        try:
            branches = deadline.share(FOR_BRANCHES)
            first = [threads.submit(training.fit_branch, name, branches) for name in (GMF, MLP)]
            _wait(first, bar)
            gmf, mlp = (future.result() for future in first)

            def fit_both() -> tuple[FittedModel, FittedModel]:
                neumf = training.fit_neumf(gmf.choice, mlp.choice, deadline.share(FOR_NEUMF))
                return neumf, training.fit_pretrained(gmf, mlp, deadline)

            both = threads.submit(fit_both)
            history = threads.submit(training.fit_history, gmf.choice, mlp.choice, deadline)
            _wait([both, history], bar)
        except BaseException:
            deadline.stop()  # else Ctrl-C would wait for the threads to finish
            raise
    return dict(zip(NAMES, (gmf, mlp, *both.result(), history.result()), strict=True))


def _wait(futures: Sequence[Future[Any]], bar: Progress) -> None:
    """Wait for all, or for the first error, and move the bar by a step a second."""
    while wait(futures, timeout=1, return_when=FIRST_EXCEPTION).not_done:
        for future in futures:
            if future.done():
                future.result()
        bar.advance()


def draw_candidates(name: str, settings: PaperSettings) -> list[Choice]:
    """The middle of every range, then settings drawn from the ranges."""
    rng = np.random.default_rng(settings.seed)
    rates = settings.gmf_rates if name == GMF else settings.rates
    widths = settings.gmf_dimensions if name == GMF else settings.mlp_dimensions
    candidates = []
    for number in range(settings.candidates):
        place = rng.random(4) if number else np.full(4, 0.5)
        rate, l2 = _between(rates, place[0]), _between(settings.l2, place[1])
        width = widths[int(place[2] * len(widths))]
        if name == GMF:
            negatives = settings.gmf_negatives[int(place[3] * len(settings.gmf_negatives))]
            candidates.append(Choice(rate, negatives, gmf=width, gmf_l2=l2))
        else:
            candidates.append(Choice(rate, settings.negatives, mlp=width, mlp_l2=l2))
    return candidates


def _between(bounds: tuple[float, float], place: float) -> float:
    """A number between the bounds; a ``place`` of 0.5 is their geometric mean."""
    low, high = map(math.log, bounds)
    return math.exp(low + place * (high - low))


def _around(rate: float) -> tuple[float, ...]:
    return rate, rate / 3, rate * 3


def join(gmf: Choice, mlp: Choice) -> Choice:
    """NeuMF's settings: each branch has its own, and batches are trained as MLP's are."""
    return replace(mlp, gmf=gmf.gmf, gmf_l2=gmf.gmf_l2)


def new_model(choice: Choice, examples: Examples, seed: int) -> NCF:
    """Make the untrained network: GMF has no MLP, and MLP has no GMF branch.

    The bias of an item starts at its log odds among the examples, so all models start at popularity.
    """
    shape = NCFShape(
        n_users=examples.n_users,
        n_items=examples.n_items,
        n_features=0,
        gmf=choice.gmf,
        mlp=choice.mlp,
        hidden=choice.hidden,
    )
    with _seeding:
        torch.manual_seed(seed)
        model = _network(shape)
        for table in (model.user_gmf, model.item_gmf):
            nn.init.normal_(table.weight, std=START_STD)
    counts = np.bincount(examples.items[examples.training], minlength=examples.n_items) + 1
    odds = counts / counts.mean() / choice.negatives
    with torch.no_grad():
        model.item_bias.weight[:, 0] = torch.from_numpy(np.log(odds))
    return model


def _network(shape: NCFShape) -> NCF:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # those of a missing branch
        return NCF(shape)


@torch.no_grad()
def pretrained(gmf: NCF, mlp: NCF, alpha: float, shift: float = 0.0) -> NCF:
    """Make a NeuMF that scores as α times a trained GMF plus 1 - α times a trained MLP (eq. 13).

    ``shift`` is added to GMF's scores: the log odds differ if both had other numbers of negatives.
    """
    shape = replace(gmf.shape, mlp=mlp.shape.mlp, hidden=mlp.shape.hidden)
    with _seeding:
        model = _network(shape)
    of_gmf = {"user_gmf.weight", "basket_gmf.weight", "item_gmf.weight", "gmf_weights"}
    weights = {
        name: (gmf if name in of_gmf else mlp).state_dict()[name]
        for name, tensor in model.state_dict().items()
        if tensor.numel()
    }
    weights["gmf_weights"] = alpha * gmf.gmf_weights
    weights["out.weight"] = (1 - alpha) * mlp.out.weight
    weights["item_bias.weight"] = alpha * (gmf.item_bias.weight + shift) + (1 - alpha) * mlp.item_bias.weight
    model.load_state_dict(weights, strict=False)
    return model
