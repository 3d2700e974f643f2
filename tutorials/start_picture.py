"""The picture of the start page: digits, and draws of five models of the chapter that were trained on them.

``python tutorials/start_picture.py`` trains them on 10,000 digits of MNIST (some ten minutes on one core) and draws
``pictures/start.png``. It needs the data folder, the extra ``pictures``, and a folder for the runs, from which it goes on if
it was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pyro
import torch

import pyro_dgm as dgm
from pyro_dgm.evaluation.pictures.canvas import as_pictures, tile

PICTURE = Path(__file__).parent / "pictures" / "start.png"

COLUMNS, ROWS = 5, 4
"""Draws of a model, side by side and below each other."""

TRAINED_ON = 10_000


class Family(NamedTuple):
    """A model with the way it is trained.

    Attributes:
        title: what the picture calls it.
        model: what makes it.
        objective: what makes its criterion.
        training: arguments of ``dgm.fit``.
        grey: whether it models grey levels, not bits.
        draws: what draws so many rows, where it is not ``model.sample``.
    """

    title: str
    model: Any
    training: dict[str, Any]
    objective: Any = None
    grey: bool = False
    draws: Any = None


CENTRED = {"optimiser": "sgd", "learning_rate": 0.2, "optimiser_options": {"weight_decay": 5e-5}, "average": 0.999}

FAMILIES = {
    "rbm": Family(
        "Boltzmann machine",
        lambda: dgm.RBM(784, hidden=500),
        {"epochs": 40, **CENTRED},
        lambda model: model.objective(kind="pcd", k=2, chains=200, centred=True),
    ),
    "vae": Family(
        "Autoencoder (VAE)",
        lambda: dgm.VAE(784, latent=20, hidden=(200, 200)),
        {"epochs": 60, "average": 0.99},
        draws=lambda model, n: model.decode(torch.randn(n, model.latent)),  # means of pixels, as is usual
    ),
    "made": Family(
        "Autoregressive",
        lambda: dgm.MADE(784, hidden=(500,)),
        {"epochs": 40, "average": 0.99},
    ),
    "diffusion": Family(
        "Diffusion",
        lambda: dgm.DiffusionInversion(784, steps=50, hidden=(500, 500)),
        {"epochs": 80, "average": 0.999},
    ),
    "gan": Family(
        "Adversarial (GAN)",
        lambda: dgm.GAN(784, latent=50, hidden=(256, 512), activation="leaky_relu", normalise=True),
        {"epochs": 30, "learning_rate": 4e-4, "optimiser_options": {"betas": (0.5, 0.999)}, "average": 0.999},
        lambda model: model.objective(
            game="non-saturating", discriminator=(512, 256), activation="leaky_relu", dropout=0.3, input_dropout=0.0
        ),
        grey=True,
    ),
}


def trained(name: str, family: Family, runs: Path) -> Any:
    """The model of a family, after its training."""
    data = dgm.data.load("mnist", binarisation=None if family.grey else "threshold")
    data = replace(data, train=data.train[:TRAINED_ON], valid=data.valid[:1000])
    pyro.set_rng_seed(0)
    model = family.model()
    objective = None if family.objective is None else family.objective(model)
    out = runs / name
    going = (out / "training.pt").exists()
    training = {"batch_size": 100, "decay": "linear", **family.training}
    dgm.fit(model, data, objective=objective, out=out, resume=going, **training)
    return model


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=Path, default=Path("runs/start"))
    options.add_argument("--out", type=Path, default=PICTURE)
    options.add_argument("names", nargs="*", help="models to train; without names all, and the picture is drawn")
    chosen = options.parse_args()
    models = {name: trained(name, FAMILIES[name], chosen.runs) for name in chosen.names or FAMILIES}
    if chosen.names:
        return
    panels = {"Data": dgm.data.load("mnist", binarisation="threshold").test.x[: COLUMNS * ROWS]}
    for name, model in models.items():
        pyro.set_rng_seed(1)
        family = FAMILIES[name]
        with torch.no_grad():
            draws = family.draws or type(model).sample
            panels[family.title] = draws(model, COLUMNS * ROWS).clamp(0, 1)
    figure, axes = plt.subplots(2, 3, figsize=(9.0, 5.4), layout="constrained")
    for (title, rows), axis in zip(panels.items(), axes.flat, strict=True):
        axis.imshow(tile(1 - as_pictures(title, rows, (28, 28)), COLUMNS, frame=1.0), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=19)
        axis.axis("off")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chosen.out, dpi=100)


if __name__ == "__main__":
    main()
