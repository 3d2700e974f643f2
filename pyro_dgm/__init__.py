"""Deep generative models for Pyro: energy-based and directed, with honest evidence."""

from __future__ import annotations

import importlib
from typing import Any

from .registry import model_classes

__version__ = "0.1.0"

_ROOMS = {
    "energy": [
        "AtMostOne", "Binary", "BoltzmannDistribution", "Categorical", "Convolution", "Dense", "Elementwise",
        "EnergyDistribution", "Factored", "FreeEnergyDistribution", "Gaussian", "Graph", "Interaction", "Lateral",
        "LogPartition", "Masked", "MaxPooled", "NegativePhaseError", "NotEnumerable", "Sparse", "SpikeSlab", "Spin",
        "ThreeWay", "Unit", "spike_slab_validity",
    ],
    "autoregressive": ["AutoregressiveDistribution", "Completion", "OrderEnsemble"],
    "in_jax": ["to_numpyro"],
    "distributions.autoregressive_bits": ["AutoregressiveBits"],
    "distributions.discretised_logistic": ["DiscretisedLogistic"],
    "distributions.padded_frames": ["PaddedFrames"],
    "mcmc": [
        "BlockGibbs", "GibbsLangevin", "HMC", "ModelChain", "ParallelTempering", "PredictionChain", "TemperedTransitions",
        "VectorizedMCMC",
    ],
    "inference.saul_bound": ["SaulBound"],
    "annealing": ["RaiseBound", "annealed_log_weights", "log_partition", "log_weights", "raise_bound"],
    "annealing.bidirectional": ["bidirectional_gap"],
    "objectives": [
        "CD", "Elbo", "ExactNegativePhase", "NegativePhaseObjective", "NoiseContrastive", "Objective", "PCD", "PseudoLikelihood",
        "RatioMatching", "negative_phase", "pseudo_log_likelihood",
    ],
    "nets.discriminator": ["Discriminator"],
    "objectives.criteria.adversarial": ["Adversarial"],
    "objectives.light_elbo": ["LightELBO"],
    "objectives.sparsity": ["Sparsity"],
    "objectives.criteria.labelled": ["Hybrid"],
    "objectives.criteria.moment_matching": ["MomentMatching"],
    "objectives.criteria.self_supervised_boosting": ["SelfSupervisedBoosting"],
    "objectives.criteria.multi_prediction": ["MultiPrediction", "predictions"],
    "objectives.criteria.contractive": ["Contractive"],
    "objectives.criteria.diffusion": ["StepBound"],
    "objectives.criteria.shaping": ["Shaping"],
    "objectives.criteria.walkback": ["Denoising", "Walkback"],
    "objectives.criteria.next_mask": ["NextMask"],
    "objectives.criteria.order_agnostic": ["OrderAgnostic"],
    "objectives.estimators.multi_sample": ["BidirectionalHelmholtz", "DReG", "IWAE", "ReweightedWakeSleep", "VIMCO"],
    "objectives.estimators.optimal_baseline": ["OptimalBaseline"],
    "objectives.estimators.per_datum": ["PerDatumELBO"],
    "objectives.estimators.score_function": ["NVIL"],
    "objectives.estimators.wake_sleep": ["WakeSleep"],
    "evaluation": ["LogLikelihood", "active_units", "kl_per_latent", "log_likelihood", "to_arviz"],
    "evaluation.conditional_likelihood": ["conditional_log_likelihood"],
    "evaluation.conditioning": ["condition", "condition_with_details"],
    "sklearn.rbm_classifier": ["RBMClassifier"],
    "sklearn.rbm_transformer": ["RBMTransformer"],
    "train.callbacks": ["Callback"],
    "train.exporting": ["export"],
    "train": ["TrainingDiverged", "fit", "load", "pretrain"],
    "train.tune": ["tune"],
    "train.classify": ["error_rate", "fine_tune", "fit_classifier"],
}  # fmt: skip
"""Public names by the room that has them; models are found by looking into their folders."""

_HOME = {name: room for room, names in _ROOMS.items() for name in names} | model_classes()
_FOLDERS = (
    "annealing", "autoregressive", "data", "distributions", "energy", "evaluation", "in_jax", "inference", "mcmc", "models",
    "nets", "objectives", "optim", "processes", "recipes", "registry", "sklearn", "train",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"pyro_dgm has no {name!r}; it has {', '.join(sorted(_HOME))}")


def __dir__() -> list[str]:
    return sorted([*_HOME, *_FOLDERS, "__version__"])


__all__ = sorted(_HOME)
