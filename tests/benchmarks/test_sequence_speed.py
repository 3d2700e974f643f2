"""Speed of sequence models of Boltzmann machines: `pytest tests/benchmarks --benchmark-only -s`."""

import pytest
import torch
from torch import nn

import pyro_dgm as dgm

from .speed import ratios

pytestmark = pytest.mark.benchmark(group="ratio")


def bare_rnn_rbm(x, hidden, recurrent, k):
    """A step of an RNN-RBM by CD-k on sequences of one length, in plain torch with its own parameters."""
    features = x.shape[2]
    recurrence = nn.RNN(features, recurrent, batch_first=True)
    to_visible, to_hidden = nn.Linear(recurrent, features), nn.Linear(recurrent, hidden)
    weight, first = nn.Parameter(0.01 * torch.randn(features, hidden)), nn.Parameter(torch.zeros(recurrent))
    parameters = [p for module in (recurrence, to_visible, to_hidden) for p in module.parameters()]
    optimiser = torch.optim.Adam([*parameters, weight, first], fused=True)
    values = x.flatten(0, 1)

    def free_energy(v, b, c):
        return -(v * b).sum(-1) - nn.functional.softplus(v @ weight + c).sum(-1)

    def step():
        optimiser.zero_grad()
        start = first.expand(len(x), 1, -1)
        later, _ = recurrence(x[:, :-1], start.transpose(0, 1).contiguous())
        states = torch.cat([start, later], 1).flatten(0, 1)
        b, c = to_visible(states), to_hidden(states)
        with torch.no_grad():
            v = values
            for _ in range(k):
                h = (torch.rand_like(c) < torch.sigmoid(v @ weight + c)).float()
                v = (torch.rand_like(b) < torch.sigmoid(h @ weight.t() + b)).float()
        ((free_energy(values, b, c) - free_energy(v, b, c)).sum() / len(x)).backward()
        optimiser.step()

    return step


@pytest.mark.parametrize("k", [1, 15])
def test_rnn_rbm_step(benchmark, k):
    """CD-k on ten piano rolls of 60 frames, 88-150 with 100 recurrent units: fit's step against bare torch."""
    x = (torch.rand(10, 60, 88) < 0.05).float()
    model = dgm.RNNRBM(60 * 89, features=88, hidden=150, recurrent=100)
    rows, objective = dgm.data.pad(list(x)), model.objective(k=k)
    objective.attach(model)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def fit_step():
        optimiser.zero_grad()
        objective.loss(rows).backward()
        optimiser.step()

    ratios(
        benchmark,
        f"RNN-RBM step by CD-{k}, ten sequences of 60 frames, 88-150 with 100 recurrent units, against bare torch",
        "≤ 1.3",
        fit=fit_step,
        bare=bare_rnn_rbm(x, 150, 100, k),
    )
