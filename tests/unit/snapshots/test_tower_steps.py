"""The arithmetic of one step of the tower: the loss, and the optimizer of single rows."""

import numpy as np
import pytest
import torch
from torch import nn

from export_scripts.snapshots.retrieval.row_optimizer import DECAY, RowOptimizer
from export_scripts.snapshots.retrieval.sampled_softmax import BLOCK, SampledSoftmax


def test_the_loss_is_cross_entropy() -> None:
    """Loss and gradients agree with torch's over the whole matrix, for more queries than one block."""
    generator = torch.Generator().manual_seed(0)
    n, m, d = BLOCK + 9, BLOCK + 40, 5
    queries, pool = (
        torch.randn(rows, d, generator=generator, dtype=torch.float64, requires_grad=True) for rows in (n, m)
    )
    log_q = torch.randn(m, generator=generator, dtype=torch.float64)
    excluded = torch.tensor([[0, 0, 3, BLOCK + 2], [7, 8, 1, 0]])
    loss = SampledSoftmax.apply(queries, pool, log_q, excluded)  # type: ignore[no-untyped-call]
    logits = queries @ pool.T - log_q
    logits = logits.index_put((excluded[0], excluded[1]), torch.tensor(-torch.inf, dtype=torch.float64))
    expected = nn.functional.cross_entropy(logits, torch.arange(n))
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(
        torch.autograd.grad(loss, (queries, pool)),
        torch.autograd.grad(expected, (queries, pool)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_row_that_every_step_reads_moves_as_by_adam() -> None:
    """With one dimension, a row's mean square is Adam's own; Adam is asked to have no momentum."""
    rows, dense = (nn.Embedding(3, 1, sparse=sparse) for sparse in (True, False))
    dense.load_state_dict(rows.state_dict())
    mine = RowOptimizer(rows.parameters())
    adam = torch.optim.Adam(dense.parameters(), lr=0.1, betas=(0.0, DECAY))
    for group in mine.param_groups:
        group["lr"] = 0.1
    before = rows.weight[0].clone()
    read = torch.tensor([1, 2, 2])
    for target in np.random.default_rng(0).normal(size=20):
        for table, optimizer in ((rows, mine), (dense, adam)):
            optimizer.zero_grad()
            torch.autograd.backward((table(read) - target).square().sum())
            optimizer.step()
    torch.testing.assert_close(rows.weight, dense.weight)
    assert torch.equal(rows.weight[0], before)
    assert mine.moved(rows.weight).tolist() == [False, True, True]


def test_a_row_that_was_left_alone_moves_further() -> None:
    """The mean square has decayed by the steps in between, as Adam's would have."""
    table = nn.Embedding(2, 1, sparse=True)
    nn.init.zeros_(table.weight)
    optimizer = RowOptimizer(table.parameters())
    optimizer.param_groups[0]["lr"] = 1.0
    for row in (0, *[1] * 99, 0):
        before = table.weight[0].item()
        optimizer.zero_grad()
        torch.autograd.backward(table(torch.tensor([row])).sum())
        optimizer.step()
    square = (1 - DECAY) * (DECAY**100 + 1) / (1 - DECAY**101)
    assert before - table.weight[0].item() == pytest.approx(square**-0.5, rel=1e-4)
