"""From a distribution of torch to one of NumPyro."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..energy import BoltzmannDistribution
from ..extras import need

if TYPE_CHECKING:
    from ._numpyro_boltzmann import NumPyroBoltzmann


def to_numpyro(dist: BoltzmannDistribution) -> NumPyroBoltzmann:
    r"""The same Boltzmann machine as a NumPyro distribution over its visible units.

    The parameters are copied: later changes of the torch tensors do not reach the result. A value of $\log Z$ that was
    attached by ``with_log_partition`` goes along.

    Args:
        dist: a distribution without batch shape, of binary, spin, categorical, Gaussian or spike-and-slab units under dense,
            lateral or sparse couplings.

    Returns:
        A distribution of the visible layer's ``event_shape``, in the dtype JAX is set to (float32 unless x64 was enabled).

    Raises:
        ValueError: other units or interactions, a batch shape, layers that are given, or a unit coupled to itself.
        MissingExtra: JAX or NumPyro is not installed.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro_dgm.in_jax import to_numpyro
        >>> rbm, data = dgm.RBM.example()
        >>> to_numpyro(rbm()).log_prob(data.numpy()).shape
        (10,)
    """
    need("to_numpyro", "jax")
    from ._numpyro_boltzmann import NumPyroBoltzmann
    from ._structure import read

    structure, arrays = read(dist)
    if dist.known:
        raise ValueError(
            f"to_numpyro got a distribution that is given {sorted(dist.known)}, which has no twin in NumPyro; pass "
            "dist.unconditional(), and clamp these layers there"
        )
    log_z = dist._log_partition
    return NumPyroBoltzmann(structure, arrays, None if log_z is None else float(log_z))
