"""The loss of the retrieval tower: a softmax of each query over a pool of items."""

from typing import Any

import torch

BLOCK = 256  # queries at a time; their products with 4,096 items take 4 MB, which a cache holds


class SampledSoftmax(torch.autograd.Function):
    """Mean cross-entropy of queries (n, d) over the ``pool`` (m, d), whose first n items are the targets.

    ``log_q`` (m,) is subtracted from the products. The pairs ``excluded`` (2, pairs), of a query and a place
    of the pool, do not count; they are in the order of the queries. The gradients are computed with the loss,
    because automatic ones would keep several matrices of (n, m).
    """

    @staticmethod
    def forward(
        ctx: Any,  # torch's context has no public type
        queries: torch.Tensor,
        pool: torch.Tensor,
        log_q: torch.Tensor,
        excluded: torch.Tensor,
    ) -> torch.Tensor:
        n, total = len(queries), queries.new_zeros(())
        to_queries, to_pool = torch.empty_like(queries), torch.zeros_like(pool)
        starts = range(0, n, BLOCK)
        bounds = torch.searchsorted(excluded[0].contiguous(), torch.tensor([*starts, n])).tolist()
        for block, start in enumerate(starts):
            asked = queries[start : start + BLOCK]
            places = torch.arange(len(asked))
            logits = torch.addmm(-log_q, asked, pool.T)
            rows, columns = excluded[:, bounds[block] : bounds[block + 1]]
            logits[rows - start, columns] = -torch.inf
            highest = logits.amax(1, keepdim=True)
            total -= (logits[places, start + places] - highest[:, 0]).sum()
            sums = logits.sub_(highest).exp_().sum(1, keepdim=True)
            total += sums.log().sum()
            chances = logits.div_(sums)
            chances[places, start + places] -= 1
            torch.mm(chances, pool, out=to_queries[start : start + BLOCK])
            to_pool.addmm_(chances.T, asked)
        ctx.save_for_backward(to_queries.div_(n), to_pool.div_(n))
        return total / n

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        to_queries, to_pool = ctx.saved_tensors
        return gradients[0] * to_queries, gradients[0] * to_pool, None, None
