"""Small chains whose transitions can be listed, and models that take exactly these steps."""

import itertools

import numpy as np
import torch
from torch import nn

from pyro_dgm.models.shared.rebuilding import RebuildingModel

P3 = np.array([1, 5, 2, 8, 3, 1, 6, 4]) / 30
"""A law of three bits, by the number 4 b0 + 2 b1 + b2."""

ROWS3 = np.array(list(itertools.product([0.0, 1.0], repeat=3)))


def numbers(x):
    """The number of each row of bits."""
    return (x @ 2 ** torch.arange(x.shape[-1] - 1, -1, -1).to(x)).long()


def flips(level, rows=ROWS3):
    """C(x~ | x) of independent flips: rows by x, columns by x~."""
    differ = (rows[:, None] != rows[None]).sum(-1)
    return level**differ * (1 - level) ** (rows.shape[1] - differ)


def posterior(p, corrupted):
    """P(x | x~) of a law under a corruption: rows by x~, columns by x."""
    joint = p[:, None] * corrupted
    return (joint / joint.sum(0)).T


def stationary(transition):
    """The law that a transition matrix keeps."""
    law = np.full(len(transition), 1 / len(transition))
    for _ in range(3000):
        law = law @ transition
    return law


def frequencies(numbers, states):
    return np.bincount(numbers.numpy(), minlength=states) / len(numbers)


def standard_errors(found, truth, draws):
    """The largest distance of frequencies from a law, in standard errors of independent draws."""
    return float((np.abs(found - truth) / np.sqrt(truth * (1 - truth) / draws)).max())


class Listed:
    """A law over all rows of three bits, one per row of a table of probabilities."""

    def __init__(self, probs):
        self.probs = probs

    def sample(self):
        return torch.as_tensor(ROWS3).to(self.probs)[torch.multinomial(self.probs, 1).squeeze(1)]

    def log_prob(self, x):
        return self.probs.gather(1, numbers(x).unsqueeze(1)).squeeze(1).log()

    def given(self, mask, value):
        """The law given known entries."""
        rows = torch.as_tensor(ROWS3).to(self.probs)
        clash = (mask.unsqueeze(1) & (value.unsqueeze(1) != rows)).any(-1)
        return Listed(torch.where(clash, 0.0, self.probs))


class JointDenoiser(RebuildingModel):
    """Rows of three bits that are flipped and drawn anew as a whole, from a table of logits by the number of x~.

    ``rule`` says how known entries are put back: ``"conditional"`` draws the others given them, ``"overwrite"`` draws all and
    writes over, ``"clean"`` also keeps them free of corruption.
    """

    def __init__(self, table, level=0.2, rule="conditional"):
        super().__init__(3, 0, "binary", "flip", level, None, None)
        self.logits = nn.Parameter(torch.as_tensor(np.log(table)))
        self.rule = rule
        self.double()

    @classmethod
    def example(cls):
        raise NotImplementedError

    def opening(self, x):
        return {"visible": x, "log_step": x.new_zeros(len(x))}

    def rebuild(self, state, clean=None):
        noisy = self.columns.corrupt(state["visible"])
        if clean is not None:
            noisy = torch.where(clean["visible"], state["visible"], noisy)
        return {}, {"visible": Listed(torch.softmax(self.logits[numbers(noisy)], -1))}

    def draw(self, layer, law, held):
        if held is not None and self.rule == "conditional":
            return law.given(*(t.expand(len(law.probs), -1) for t in held)).sample()
        value = law.sample()
        return value if held is None else torch.where(*held, value)

    def clean(self, clamp):
        return {layer: mask for layer, (mask, _) in clamp.items()} if clamp and self.rule == "clean" else None

    def output_at(self, x):
        raise NotImplementedError

    def objective(self):
        raise NotImplementedError

    def options(self):
        return {}


class BitNetwork(RebuildingModel):
    """Hidden bits with a law given the last hidden bits and row, and rows given hidden bits, all by logits.

    Args:
        bias, by_hidden, by_row: logits of h are ``bias + h- by_hidden + x- by_row``.
        row_bias, by_bits: logits of x are ``row_bias + h by_bits``.
    """

    def __init__(self, bias, by_hidden, by_row, row_bias, by_bits):
        super().__init__(len(row_bias), 0, "binary", lambda x: x, None, None, None)
        self.tables = nn.ParameterList(torch.tensor(t) for t in (bias, by_hidden, by_row, row_bias, by_bits))
        self.double()

    @classmethod
    def example(cls):
        raise NotImplementedError

    def opening(self, x):
        return {"visible": x, "hidden": x.new_zeros(len(x), len(self.tables[0])), "log_step": x.new_zeros(len(x))}

    def rebuild(self, state, clean=None):
        bias, by_hidden, by_row, row_bias, by_bits = self.tables
        hidden = torch.bernoulli(torch.sigmoid(bias + state["hidden"] @ by_hidden + state["visible"] @ by_row))
        return {"hidden": hidden}, {"visible": self.columns.law(row_bias + hidden @ by_bits)}

    def output_at(self, x):
        raise NotImplementedError

    def objective(self):
        raise NotImplementedError

    def options(self):
        return {}


def run(model, chains, steps, clamp=None, seed=0):
    """The last states of many chains."""
    from pyro_dgm.mcmc import ModelChain

    torch.manual_seed(seed)
    kernel = ModelChain(model, clamp)
    state = kernel.start(chains)
    for _ in range(steps):
        state = kernel.sample(state)
    return state
