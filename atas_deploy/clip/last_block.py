"""The last block of a tower: patches by a read-out, the rest as it was trained.

Patches and the rest pass each weight together, so that a graph holds it once and reads it once.

    B batch, N patches, P tokens before them, T = P + N, K heads, E width of a head,
    V width of a token
"""

from typing import NamedTuple

import torch
from torch import Tensor

from atas_deploy.clip.attention import Block, Heads, attend
from atas_deploy.clip.readouts import Layout


class Last(NamedTuple):
    """What the last block has at hand.

    Attributes:
        block: the block.
        tokens: (B, T, V) its input.
        heads: its queries, keys and values, each (B, K, T, E).
        layout: where the patches are.
        context: (B, K, N, E) what the read-out mixed for them.
        reduced: whether the read-out drops residual and MLP.
    """

    block: Block
    tokens: Tensor
    heads: Heads
    layout: Layout
    context: Tensor
    reduced: bool

    def alone(self) -> Tensor:
        """The patches alone, (B, N, V)."""
        update = self.block.output(self.context)
        if self.reduced:
            return update
        return self.block.finish(self.tokens[:, self.layout.prefix :], update)

    def with_prefix(self) -> Tensor:
        """The tokens before the patches as trained, then the patches: (B, T, V)."""
        (q, k, v), prefix = self.heads, self.layout.prefix
        first = attend(q[:, :, :prefix], k, v)
        update = self.block.output(torch.cat([first, self.context], dim=2))
        if not self.reduced:
            return self.block.finish(self.tokens, update)
        finished = self.block.finish(self.tokens[:, :prefix], update[:, :prefix])
        return torch.cat([finished, update[:, prefix:]], dim=1)

    def with_trained(self) -> tuple[Tensor, Tensor]:
        """The patches, and once more as the block was trained: each (B, N, V)."""
        (q, k, v), prefix = self.heads, self.layout.prefix
        trained = attend(self.layout.patches(q), k, v)
        update = self.block.output(torch.cat([trained, self.context]))
        tokens, batch = self.tokens[:, prefix:], self.tokens.shape[0]
        if self.reduced:
            return update[batch:], self.block.finish(tokens, update[:batch])
        finished = self.block.finish(torch.cat([tokens, tokens]), update)
        return finished[batch:], finished[:batch]
