"""Draws from the conditionals of any model."""

from __future__ import annotations

from torch import Tensor

from ..models.shared.model import Model
from ..models.shared.modes import evaluating


def condition(
    model: Model, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
) -> Tensor:
    r"""Draws from any conditional of any model, $x_a \sim p(x_a \mid x_b)$: ``draws x rows x event_shape``.

    Machines and latent-variable models run one chain per row: machines by the kernel that fits them with the known entries
    clamped, latent-variable models by Metropolis within Gibbs. Autoregressive models draw exactly where their order or a
    list of values allows. To diagnose the chains, run ``dgm.VectorizedMCMC`` over a kernel with ``clamp=`` yourself.

    Args:
        model: a model that has conditionals.
        x: rows; the values of unknown entries are ignored.
        known: booleans, common to all rows or one set per row.
        draws: the number of draws that are kept.
        warmup: steps of a chain before the first draw, 500 by default.
        thinning: steps of a chain from one draw to the next, 1 by default.

    Raises:
        ValueError: a model without conditionals, no row, booleans that do not fit, numbers that are not positive; a warm-up or
            thinning although the draws are independent.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> rbm, x = dgm.RBM.example()
        >>> known = torch.arange(x.shape[1]) < 2
        >>> draws = condition(rbm, x, known, draws=7, warmup=10)
        >>> draws.shape == (7, *x.shape), torch.equal(draws[..., known], x[:, known].expand(7, -1, -1))
        (True, True)
    """
    if not isinstance(model, Model):
        raise ValueError(f"condition got {type(model).__name__}; expected a model of pyro_dgm")
    with evaluating(model):
        return model.condition(x, known, draws, warmup, thinning)
