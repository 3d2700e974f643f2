"""Boltzmann machines as NumPyro distributions and kernels: compiled sampling, and a second, independent implementation.

Nothing but the graph and raw parameters crosses from torch to JAX, as copies; energies, sums and draws are written anew.
Importing this package imports neither: both are imported at the first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..energy import BoltzmannDistribution
    from ._numpyro_boltzmann import NumPyroBoltzmann
    from ._numpyro_gibbs import GibbsState, NumPyroGibbs

_LAZY = {
    "GibbsState": "_numpyro_gibbs",
    "NumPyroBoltzmann": "_numpyro_boltzmann",
    "NumPyroGibbs": "_numpyro_gibbs",
}

__all__ = ["GibbsState", "NumPyroBoltzmann", "NumPyroGibbs", "to_numpyro"]


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
        ValueError: other units or interactions, a batch shape, or a unit coupled to itself.
        ImportError: JAX or NumPyro is not installed.

    Example:
        >>> import pyro_dgm as dgm
        >>> from pyro_dgm.compiled import to_numpyro
        >>> rbm, data = dgm.RBM.example()
        >>> to_numpyro(rbm()).log_prob(data.numpy()).shape
        (10,)
    """
    module = _module("_numpyro_boltzmann")
    from ._structure import read

    structure, arrays = read(dist)
    log_z = dist._log_partition
    return module.NumPyroBoltzmann(structure, arrays, None if log_z is None else float(log_z))


def _module(name: str) -> Any:
    try:
        import jax  # noqa: F401
        import numpyro  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"pyro_dgm.compiled needs JAX and NumPyro ({error}); install them with pip install pyro-dgm[numpyro]"
        ) from error
    return importlib.import_module(f"{__name__}.{name}")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(_module(_LAZY[name]), name)
    raise AttributeError(f"pyro_dgm.compiled has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
