"""What type checkers see of the package's names. mypy reads this file: it complains of an error that it no longer finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

if TYPE_CHECKING:
    from torch import Tensor

    import pyro_dgm as dgm
    from pyro_dgm.models.directed.vae import VAE
    from pyro_dgm.train import Run

    def use(rows: Tensor) -> None:
        vae = dgm.VAE(64, latent=3)
        assert_type(vae, VAE)
        assert_type(dgm.fit(vae, rows), Run)
        assert_type(dgm.log_likelihood(vae, rows), dgm.LogLikelihood)
        assert_type(dgm.data.load("digits", binarisation="threshold"), dgm.data.Dataset)
        dgm.VAE(64, latnt=3)  # type: ignore[call-arg]
        dgm.RBM("64")  # type: ignore[arg-type]
        dgm.PCD(chain=3)  # type: ignore[call-arg]
        dgm.data.load("digits", binarisaton="threshold")  # type: ignore[call-arg]
        dgm.NoSuchThing  # type: ignore[attr-defined]  # noqa: B018
