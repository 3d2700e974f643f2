"""Negative samples by chains that start at the data (CD)."""

from __future__ import annotations

from torch import Tensor

from ...energy import EnergyDistribution, State
from .chains import ChainsPhase, MakeKernel
from .positive import Positive


class CD(ChainsPhase):
    r"""Contrastive divergence: negative samples are k sweeps away from the data (Hinton 2002).

    Every datum has its own chain, so the context may differ from row to row, and masks and scales of rows reach their
    negatives. The surrogate's value is minus the negatives' free energy, so that the loss is $F(x) - F(x^-)$; it is no
    likelihood, and enumeration, which weighs latents by it, is refused.

    Args:
        k: steps of the chains (Gibbs sweeps, for a Boltzmann distribution); a pair ``(1, 20)`` lets ``fit`` raise them from
            the first epoch to the last (in a loop of your own, set ``phase.k``).
        centred: centre the gradient (20.36-37).
        kernel: moves the chains: a function from the distribution to a kernel whose chains keep no more than a draw; by
            default ``dgm.BlockGibbs``, or ``dgm.HMC`` where there is only a free energy.
        positive: how hidden units are dealt with given the data (20.1): ``"exact"`` sums them out; ``"chains"`` draws them by
            sweeps with the data clamped; ``"mean-field"`` takes the variational bound. By default exact where few of
            their states are to be listed, else chains; the loss then has the bound's value.

    Raises:
        ValueError: ``k`` is no positive integer, nor a pair of them; at the site, a kernel whose chains keep more than a draw,
            or enumerated latents on which the site depends.
    """

    estimates = False

    def __init__(
        self,
        k: int | tuple[int, int] = 1,
        *,
        centred: bool = False,
        kernel: MakeKernel | None = None,
        positive: Positive | None = None,
    ) -> None:
        super().__init__(k, centred, kernel, positive)

    def negatives(self, site: str, fn: EnergyDistribution, value: Tensor) -> State:
        kernel = self.chains_kernel(site, fn)
        return kernel.move(kernel.around(value.detach()), self.k)

    def surrogate(self, site: str, fn: EnergyDistribution, collapsed: Tensor) -> Tensor:
        return collapsed
