"""The optimizer of the tower: only the rows of a table that a step has read cost anything.

Adam keeps two numbers for each weight and moves every row at every step, also those that the step did not
read. This optimizer keeps one mean square for each row, as row-wise Adagrad does (Naumov et al. 2019, "Deep
Learning Recommendation Model", section 4), and lets it decay with the steps since the row was last read, as
Adam's does. So a row that is read rarely moves further each time.
"""

from collections.abc import Callable, Iterable

import torch

DECAY = 0.999  # of a mean square at each step, Adam's second beta
TINY = 1e-8  # added to the root of a mean square


class RowOptimizer(torch.optim.Optimizer):
    """Moves the rows with a gradient by ``lr`` · gradient / root of the row's mean square gradient.

    The tables are two-dimensional and have sparse gradients. A row whose mean square is 0 was never moved.
    """

    def __init__(self, tables: Iterable[torch.nn.Parameter]):
        super().__init__(tables, {"lr": 0.0})
        for table in self._tables():
            self.state[table] = {
                "step": torch.zeros(()),
                "read": torch.zeros(len(table)),  # step that last read the row
                "square": torch.zeros(len(table)),
            }

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the rows; tables without a gradient stay. ``closure`` is ignored."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    gradient = table.grad.coalesce()
                    self._move(table, gradient.indices()[0], gradient.values(), group["lr"])

    def moved(self, table: torch.Tensor) -> torch.Tensor:
        """Mark the rows (rows,) of ``table`` that have moved."""
        marks: torch.Tensor = self.state[table]["square"] > 0
        return marks

    def _move(self, table: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        state = self.state[table]
        state["step"] += 1
        step = int(state["step"])
        decay = DECAY ** (step - state["read"][rows])
        square = state["square"][rows] * decay + (1 - DECAY) * gradient.square().mean(1)
        state["read"][rows], state["square"][rows] = step, square
        root = (square / (1 - DECAY**step)).sqrt() + TINY
        table.index_add_(0, rows, gradient / root[:, None], alpha=-lr)

    def _tables(self) -> list[torch.nn.Parameter]:
        return [table for group in self.param_groups for table in group["params"]]
