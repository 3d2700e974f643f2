"""Binary and spin Boltzmann machines as NumPyro distributions and kernels: a second, independent implementation.

Nothing but raw parameters crosses from torch to JAX, as copies; energies, sums, colourings and draws are written anew.
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

    All units, flattened and with the visible layer first, form one vector $x$, and
    $\log p(x) = b^\top x + \frac12 x^\top J x - \log Z$ with $J$ symmetric and of zero diagonal. A Dense weight is a
    block of $J$, a Lateral $U$ becomes $2U$, and a Sparse edge $(i, j)$ becomes $J_{ij} = J_{ji} = w_e$. The parameters
    are copied: later changes of the torch tensors do not reach the result. A value of log Z that was attached to
    ``dist`` is not carried over.

    Args:
        dist: a distribution whose layers are Binary or Spin, without batch shape.

    Returns:
        A distribution of ``event_shape`` (visible,), in the dtype JAX is set to (float32 unless x64 was enabled).

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
    from ._parameters import flat_parameters

    return module.NumPyroBoltzmann(*flat_parameters(dist))


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
