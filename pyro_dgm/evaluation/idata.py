"""Chains and models as ArviZ data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..annealing import log_partition
from ..checks import check_count, check_rows
from ..data.precision import in_precision
from ..energy.support import in_support
from ..extras import need
from ..mcmc import EnergyKernel, VectorizedMCMC
from ..models.shared.arguments import rows_for
from ..models.shared.model import Model
from ..nets.modes import evaluating


def to_arviz(
    source: Any,
    observed: Tensor | None = None,
    *,
    num_samples: int | None = None,
    num_chains: int | None = None,
    **options: Any,
) -> Any:
    r"""ArviZ ``InferenceData`` (a ``DataTree`` from ArviZ 1.0 on) of chains or of a latent-variable model.

    For chains, the posterior group holds the kernel's scalars (chains x draws; ``energy`` and ``free_energy`` in nats where
    there is an energy), because single units may be constant and have no R-hat; the visible draws are the posterior predictive
    ``x``. Kernels with gradients give
    ``sample_stats`` (which draws diverged, and the step size). With ``observed`` rows it also
    holds their ``log_likelihood``, whose draws differ by the uncertainty of log Z alone.

    For a latent-variable model and rows, the posterior group holds latents drawn from the guide and resampled by their
    importance weights, with $\log p(x \mid z)$ and replicated data.

    Args:
        source: a ``VectorizedMCMC`` that has run, or a latent-variable model.
        observed: data rows, ``n x event_shape``; needed for a model.
        num_samples: draws per chain, for a model, 500 by default.
        num_chains: chains for a model, which are independent sets of draws; 4 by default.
        options: for chains with ``observed``, options of ``dgm.log_partition``.

    Raises:
        ValueError: chains that have not run; a model without rows; rows that are no states of the chains' visible layer; a source
            of another kind; options of another kind of source; a number of draws or chains below one.
        MissingExtra: ArviZ is not installed.

    Example:
        >>> import pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> mcmc = dgm.VectorizedMCMC(dgm.BlockGibbs(rbm()), 20, 5, num_chains=4, disable_progbar=True)
        >>> mcmc.run()
        >>> dict(dgm.to_arviz(mcmc).posterior.sizes)
        {'chain': 4, 'draw': 20}
    """
    need("to_arviz", "arviz")
    if isinstance(source, VectorizedMCMC):
        _refuse(
            "chains that have run",
            num_samples=num_samples,
            num_chains=num_chains,
            **({} if observed is not None else options),
        )
        groups = _from_chains(source, observed, options)
    elif isinstance(source, Model):
        if observed is None:
            raise ValueError(
                f"to_arviz got a {type(source).__name__} without observed rows. Of a latent-variable model it shows p(z | x): "
                "pass rows, as dgm.to_arviz(model, x). Of machines and chains it shows draws: pass a VectorizedMCMC that has run"
            )
        _refuse("a latent-variable model", **options)
        draws = check_count("num_samples", 500 if num_samples is None else num_samples)
        chains = check_count("num_chains", 4 if num_chains is None else num_chains)
        observed = rows_for(source, observed, "observed")
        source.check_data(observed)
        with evaluating(source):
            drawn = source.posterior_draws(observed, draws, chains)
        groups = {group: {name: _numpy(value) for name, value in values.items()} for group, values in drawn.items()}
        groups["observed_data"] = {name: _numpy(observed) for name in groups["log_likelihood"]}
    else:
        raise ValueError(
            f"to_arviz got {type(source).__name__}; expected a VectorizedMCMC that has run, or a latent-variable model "
            "with observed rows"
        )
    return _from_dict(groups)


def _refuse(source: str, **options: Any) -> None:
    """Refuse options that were given although the source has no use for them."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"to_arviz of {source} got {name}={value!r}, for which it has no use: leave it out")


def _from_dict(groups: dict[str, dict[str, np.ndarray]]) -> Any:
    """Groups of arrays as ArviZ data, by the installed version's form of ``from_dict``."""
    import arviz

    if int(arviz.__version__.split(".")[0]) >= 1:
        return arviz.from_dict(groups)
    return arviz.from_dict(**groups)  # type: ignore[arg-type]


def _from_chains(
    mcmc: VectorizedMCMC, observed: Tensor | None, options: dict[str, Any]
) -> dict[str, dict[str, np.ndarray]]:
    """The groups of chains that have run: energies, visible draws, and log-likelihoods of observed rows."""
    scalars = mcmc.chain_scalars()
    groups = {"posterior": {name: _numpy(value) for name, value in scalars.items()}}
    if stats := mcmc.sample_stats():
        groups["sample_stats"] = {name: _numpy(value) for name, value in stats.items()}
    kernel = mcmc.kernel
    visible = mcmc.get_samples(group_by_chain=True).get(kernel.visible) if mcmc.keep == "draws" else None
    if visible is not None:
        groups["posterior_predictive"] = {"x": _numpy(visible)}
    if observed is not None:
        if not isinstance(kernel, EnergyKernel):
            raise ValueError(
                f"observed rows were given with chains of {type(kernel).__name__}, whose law has no density that can be "
                "computed; leave observed out, and compare samples (dgm.evaluation)"
            )
        dist = kernel.dist
        like = next(iter(dist.parameters()))
        observed = in_precision(rows_for(dist, observed, "observed"), like.dtype, "observed").to(like.device)
        check_rows(observed, dist.event_shape, f"observed, as states of the layer {dist.visible!r},")
        if not in_support(dist.support, observed):
            raise ValueError(
                f"observed got values outside the support of the layer {dist.visible!r}, {dist.support}; pass rows as the "
                "chains draw them"
            )
        chains, draws = next(iter(scalars.values())).shape[:2]
        with torch.no_grad():
            log_z = log_partition(dist, **options)
            noise = log_z.stderr * torch.randn(chains, draws, 1, device=log_z.value.device)
            log_likelihoods = -dist.free_energy(observed) - log_z.value - noise.to(log_z.value)
        groups["log_likelihood"] = {"x": _numpy(log_likelihoods)}
        groups["observed_data"] = {"x": _numpy(observed)}
    return groups


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()
