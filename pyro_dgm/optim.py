"""Pyro's optimisers for ``SVI``, by a shorter way to the same numbers.

``SVI`` steps every parameter by an optimiser of its own, and what torch does around the arithmetic of a step comes with each of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.optim import PyroOptim
from torch import nn

from .train import optimisers

Options = dict[str, Any] | Callable[..., dict[str, Any]]


def SGD(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """``pyro.optim.SGD`` with shorter plain steps; with momentum, or on a GPU, torch's own.

    Args:
        optim_args: options of ``torch.optim.SGD``, or a function from a parameter's name to them, as Pyro's optimisers have.
        clip_args: likewise, for clipping gradients.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> rbm, x = dgm.RBM.example()
        >>> program = dgm.negative_phase(rbm.model, dgm.PCD(chains=20))
        >>> svi = SVI(program, rbm.guide, dgm.optim.SGD({"lr": 0.01}), dgm.LightELBO())
        >>> bool(svi.step(x) > 0)
        True
    """
    return PyroOptim(optimisers.SGD, optim_args, clip_args)


def Adam(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """``pyro.optim.Adam`` by torch's fused loop, in shorter steps.

    On processors and CUDA devices ``fused`` is True unless the options say otherwise.

    Args:
        optim_args: options of ``torch.optim.Adam``, or a function from a parameter's name to them, as Pyro's optimisers have.
        clip_args: likewise, for clipping gradients.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro.infer import SVI, TraceMeanField_ELBO
        >>> vae, x = dgm.VAE.example()
        >>> svi = SVI(vae.model, vae.guide, dgm.optim.Adam({"lr": 0.01}), dgm.LightELBO(TraceMeanField_ELBO()))
        >>> bool(svi.step(x) > 0)
        True
    """
    return PyroOptim(_adam, optim_args, clip_args)


def AdamW(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
    """``pyro.optim.AdamW`` by torch's fused loop, in shorter steps; as ``Adam``."""
    return PyroOptim(_adamw, optim_args, clip_args)


def _adam(parameters: list[nn.Parameter], **options: Any) -> optimisers.Adam:
    return optimisers.Adam(parameters, **_fused(parameters, options))


def _adamw(parameters: list[nn.Parameter], **options: Any) -> optimisers.AdamW:
    return optimisers.AdamW(parameters, **_fused(parameters, options))


def _fused(parameters: list[nn.Parameter], options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the fused loop where it runs and nothing else is chosen."""
    chosen = options.keys() & optimisers.LOOPS
    runs = all(p.device.type in optimisers.FUSED_ON and p.is_floating_point() for p in parameters)
    return {"fused": True, **options} if runs and not chosen else options
