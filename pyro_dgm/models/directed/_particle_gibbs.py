"""Particle Gibbs for a variational recurrent network, given frames that are partly known."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...distributions.padded_frames import join
from ...inference.particles import Step, run_particles


class Path(NamedTuple):
    """A path through the network: latents z, ``rows x frames x latent``, and frames x, ``rows x frames x features``."""

    z: Tensor
    x: Tensor


class Recurrent(Protocol):
    """The parts of a variational recurrent network that ``particle_gibbs`` uses."""

    code: Any
    decoder: Any

    def start(self) -> Tensor: ...

    def prior(self, h: Tensor) -> Any: ...

    def encode(self, described: Tensor, h: Tensor) -> Any: ...

    def see(self, values: Tensor) -> Tensor: ...

    def observe(self, output: Tensor) -> Any: ...

    def advance(self, described: Tensor, code: Tensor, h: Tensor) -> Tensor: ...


def particle_gibbs(
    model: Recurrent, values: Tensor, given: Tensor, present: Tensor, kept: Path | None, particles: int
) -> Path:
    """Draw one path of latents and frames per row from a particle filter in which ``kept`` is particle 0.

    Latents are proposed by the guide where a frame is wholly known, else by the prior.

    Args:
        model: the recurrent network.
        values: frames, ``rows x frames x features``; unknown values are not read.
        given: booleans of that shape, True where a value is known.
        present: booleans, ``rows x frames``, True where a frame exists.
        kept: the path of the chain's last step, or None at the first.
        particles: the number of particles.
    """

    def step(t: int, h: Tensor) -> Step:
        prior, guide = model.prior(h), model.encode(model.see(values[:, t]), h)
        whole = given[:, t].all(-1)
        z = torch.where(whole.unsqueeze(-1), guide.sample(), prior.sample())
        if kept is not None:
            z[0] = kept.z[:, t]
        code = model.code(z)
        observation = model.observe(model.decoder(join(code, h)))
        x = torch.where(given[:, t], values[:, t], observation.sample())
        if kept is not None:
            x[0] = kept.x[:, t]
        gain = (observation.log_prob(x) * given[:, t]).sum(-1)
        gain = gain + torch.where(whole, prior.log_prob(z) - guide.log_prob(z), 0.0)
        return Step((z, x), gain, model.advance(model.see(x), code, h))

    start = model.start().expand(particles, len(values), -1)
    paths = run_particles(step, start, present, particles, keep_first=kept is not None)
    frames = [latents_and_frame for _, latents_and_frame in paths.back()][::-1]
    return Path(*(torch.cat(values).transpose(0, 1) for values in zip(*frames, strict=True)))
