"""The token table's rows that a sample uses; the others only decay, and are not touched until the end.

CLIP's table has 49,408 rows, a sample's captions use a few thousand of them. A row that no text uses has no gradient,
so AdamW does one thing to it: it multiplies it by (1 - rate x decay) at every step. That product is one number, which
is applied when the weights are asked for. The same weights as with the whole table, up to rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clipdemo import towers


class UsedRows:
    """Trains only the used rows of the network's token table, which takes the table's place; `table` gives it back."""

    def __init__(self, network: nn.Module, used: np.ndarray) -> None:
        """`used`: distinct token ids in ascending order, int. Order keeps the end-of-text token the largest."""
        self._tower = towers.text_tower(network)
        whole = self._tower.token_embedding
        self.used = torch.as_tensor(np.asarray(used, dtype=np.int64))
        self.decayed = 1.0  # what the other rows have been multiplied by
        self.whole = whole.weight.detach()
        rows = nn.Embedding(len(self.used), whole.embedding_dim, device=self.whole.device, dtype=self.whole.dtype)
        rows.weight = nn.Parameter(self.whole[self.used.to(self.whole.device)].clone(), whole.weight.requires_grad)
        self._tower.token_embedding = rows

    @property
    def weight(self) -> nn.Parameter:
        """The used rows, float (n_used, width)."""
        return self._tower.token_embedding.weight

    def ids(self, tokens: np.ndarray | Tensor) -> Tensor:
        """int64: token ids as places among the used rows."""
        return torch.searchsorted(self.used, torch.as_tensor(np.asarray(tokens, dtype=np.int64)))

    def stepped(self, learning_rate: float, weight_decay: float) -> None:
        """Notes what a step of AdamW does to the rows that are not here."""
        if self.weight.requires_grad:
            self.decayed *= 1 - learning_rate * weight_decay

    def table(self, rows: Tensor) -> Tensor:
        """The whole table, float (vocabulary, width), with `rows` in the used places."""
        table = self.whole * self.decayed
        table[self.used.to(table.device)] = rows
        return table


def used_tokens(*tables: np.ndarray, rows: int = 65_536) -> np.ndarray:
    """Distinct ids of token tables in ascending order, read a piece at a time."""
    used = np.zeros(0, dtype=bool)
    for piece in (table[i : i + rows] for table in tables for i in range(0, len(table), rows)):
        used = np.pad(used, (0, max(0, int(piece.max()) + 1 - len(used))))
        used[piece] = True
    return np.flatnonzero(used)
