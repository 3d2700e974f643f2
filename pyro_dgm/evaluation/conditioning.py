"""Draws from the conditionals of any model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..calls import says_what_it_takes
from ..checks import described
from ..models.shared.model import Model
from ..nets.modes import evaluating


@says_what_it_takes
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
    with evaluating(_checked(model)):
        return model.condition(x, known, draws, warmup, thinning)


def condition_with_details(
    model: Model, x: Tensor, known: Tensor, draws: int = 100, warmup: int | None = None, thinning: int | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """The draws of ``condition`` and how far they can be trusted.

    The details have ``method``, and ``smallest_effective_sample_size``: of all rows the fewest independent draws that a row's
    draws are worth. Chains also have ``largest_r_hat``, of every row's chain split into halves (near 1 if they agree), and
    ``smallest_acceptance`` and its row (``row_of_smallest_acceptance``) where they accept proposals. Those that a guide proposes
    have ``pareto_k_median`` and ``pareto_k_above_0.7``, a share of the rows: above 0.7 the guide is too narrow, and the chain may
    miss a part of the posterior that it never saw.

    Args:
        model, x, known, draws, warmup, thinning: as for ``condition``.

    Raises:
        ValueError: as ``condition``.

    Example:
        >>> import torch, pyro_dgm as dgm
        >>> nade, x = dgm.NADE.example()
        >>> condition_with_details(nade, x, torch.ones_like(x[0]).bool(), draws=3)[1]["smallest_effective_sample_size"]
        3.0
    """
    with evaluating(_checked(model)):
        return model.condition_with_details(x, known, draws, warmup, thinning)


def _checked(model: Model) -> Model:
    if not isinstance(model, Model):
        raise ValueError(
            f"condition got {described(model)}; expected a model of pyro_dgm. A Pyro program with its guide is one as the "
            "generate and infer of a LatentVariableModel"
        )
    return model
