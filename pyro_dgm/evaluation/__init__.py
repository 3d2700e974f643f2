"""Figures with their uncertainty, ArviZ conversion, pictures."""

from .idata import to_arviz
from .latents import SiteActivity, SiteKL, active_units, kl_per_latent
from .likelihood import LogLikelihood, log_likelihood

__all__ = ["LogLikelihood", "SiteActivity", "SiteKL", "active_units", "kl_per_latent", "log_likelihood", "to_arviz"]
