"""A run that is killed between two steps, to be called in a process of its own."""

from __future__ import annotations

import os
import signal

import pyro
from torch.optim.optimizer import register_optimizer_step_post_hook

import pyro_dgm as dgm


def train(kind: str, out: str, resume: bool = False, kill_at: int | None = None) -> None:
    """Four epochs of 30 steps or so; ``kill -9`` after the step of that number."""
    taken = 0

    def count(*_):
        nonlocal taken
        taken += 1
        if taken == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(count)
    pyro.set_rng_seed(1)
    digits = dgm.data.load("digits", binarisation="threshold" if kind == "rbm" else "stochastic")
    model = dgm.RBM(64, 20) if kind == "rbm" else dgm.VAE(64, latent=3, hidden=(10,))
    options = {"epochs": 4, "batch_size": 50, "learning_rate": 0.01, "average": 0.99, "decay": "linear", "seed": 5}
    dgm.fit(model, digits, **options, out=out, resume=resume, progress=False)
