"""Pictures of samples, reconstructions, training and latents."""

from .comparisons import imputations, samples_and_data
from .drawing import drawing_animation, drawing_sequence
from .energies import energy_trace
from .grids import filters, latent_manifold, reconstructions, sample_grid, samples_and_neighbours, training_curve
from .latent_bars import latent_bars

__all__ = [
    "drawing_animation",
    "drawing_sequence",
    "energy_trace",
    "filters",
    "imputations",
    "latent_bars",
    "latent_manifold",
    "reconstructions",
    "sample_grid",
    "samples_and_data",
    "samples_and_neighbours",
    "training_curve",
]
