"""A game whose course is known: v = ab, where a model owns a and its criterion owns b."""

from __future__ import annotations

import torch
from torch import nn

import pyro_dgm as dgm
from pyro_dgm.models.shared.model import Model
from pyro_dgm.objectives.objective import Turn


class Player(Model):
    """The player that lowers v; its data do not matter."""

    def __init__(self, a=1.0, dropout=0.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))
        self.dropout = nn.Dropout(dropout)
        self.modes = []

    @classmethod
    def example(cls):
        return cls(), torch.zeros(10, 1, dtype=torch.float64)

    def sample(self, n):
        return torch.zeros(n, 1)

    def objective(self):
        return Product()

    def options(self):
        return {}

    def check_data(self, x):
        pass

    def progress(self, train, valid):
        self.modes.append(self.dropout.training)
        return {"distance": float(self.a.detach().abs())}


class Opponent(nn.Module):
    """The player that raises v, with a buffer that counts its turns."""

    def __init__(self, b=0.0):
        super().__init__()
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


class Product(dgm.Objective):
    """Both players' losses; one after the other, or at once (each with the other held)."""

    def __init__(self, alternate=True, steps=1, noise=0.0):
        self.alternate, self.steps, self.noise = alternate, steps, noise
        self.opponent = Opponent()
        self.modes = []

    def attach(self, model):
        self.player = model

    def owned(self):
        return {"opponent": self.opponent}

    def turns(self, x):
        a, b = self.player.a, self.opponent.b
        shake = self.noise * torch.randn(len(x), dtype=torch.float64).mean() if self.noise else 0.0

        def raised():
            self.opponent.seen += 1
            self.modes.append(self.player.dropout.training)
            return -a * b + shake * b

        if self.alternate:
            yield Turn("model", lambda: a * b + shake * a, ("model",))
            for _ in range(self.steps):
                yield Turn("opponent", raised, ("opponent",))
        else:
            yield Turn("both", lambda: a * b.detach() - a.detach() * b)
