"""Deep generative models for Pyro: energy-based and directed, with honest evidence."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "energy": [
        "Binary", "BoltzmannDistribution", "Categorical", "Convolution", "Dense", "EnergyDistribution", "Gaussian", "Graph",
        "Interaction", "Lateral", "LogPartition", "NegativePhaseError", "NotEnumerable", "Sparse", "SpikeSlab", "Spin", "Unit",
        "log_partition", "spike_slab_validity",
    ],
    "mcmc": ["BlockGibbs", "GibbsLangevin", "HMC", "ParallelTempering", "TemperedTransitions", "VectorizedMCMC"],
    "objectives": ["CD", "PCD", "ExactNegativePhase", "negative_phase"],
    "objectives.pseudolikelihood": ["PseudoLikelihood", "pseudo_log_likelihood"],
    "objectives.ratio_matching": ["RatioMatching"],
    "objectives.noise_contrastive": ["NoiseContrastive"],
    "energy.free": ["FreeEnergyDistribution"],
    "energy.raise_bound": ["RaiseBound", "raise_bound"],
    "estimator": ["RBMTransformer"],
    "objectives.importance": ["log_weights"],
    "objectives.latent_annealing": ["annealed_log_weights"],
    "objectives.bidirectional": ["bidirectional_gap"],
    "objectives.multi_sample": ["BidirectionalHelmholtz", "DReG", "IWAE", "ReweightedWakeSleep", "VIMCO"],
    "objectives.per_datum": ["PerDatumELBO"],
    "objectives.score_function": ["NVIL"],
    "objectives.optimal_baseline": ["OptimalBaseline"],
    "objectives.multi_prediction": ["MultiPrediction", "predictions"],
    "objectives.wake_sleep": ["WakeSleep"],
    "objectives.objective": ["Elbo", "NegativePhaseObjective", "Objective"],
    "evaluation": ["LogLikelihood", "active_units", "kl_per_latent", "log_likelihood", "to_arviz"],
    "evaluation.conditioning": ["condition"],
    "train.classify": ["error_rate", "fine_tune", "fit_classifier"],
    "train": ["TrainingDiverged", "fit", "load", "pretrain"],
    "autoregressive": ["AutoregressiveDistribution", "Completion", "OrderEnsemble"],
    "models.fully_visible": ["FVBN"],
    "models.made": ["MADE"],
    "models.nade": ["NADE"],
    "models.rnade": ["RNADE"],
    "models.rnn_nade": ["RNNNADE"],
    "models.neural_autoregressive": ["NeuralAutoregressive"],
    "objectives.next_mask": ["NextMask"],
    "models.orderless_nade": ["OrderlessNADE"],
    "models.nade_k": ["NADEk"],
    "models.convolutional_nade": ["ConvolutionalNADE"],
    "objectives.order_agnostic": ["OrderAgnostic"],
    "models.rbm": ["RBM"],
    "models.boltzmann_machine": ["BoltzmannMachine"],
    "models.deep_belief_network": ["DBN"],
    "models.deep_boltzmann_machine": ["DBM"],
    "models.gaussian_rbm": ["GaussianRBM"],
    "models.spike_slab_rbm": ["SpikeSlabRBM"],
    "models.spike_slab_coding": ["S3C"],
    "models.coupled_slabs": ["CoupledSlabRBM"],
    "models.convolutional_spike_slab_rbm": ["ConvolutionalSpikeSlabRBM"],
    "models.mean_covariance": ["CovarianceRBM", "MeanCovarianceRBM"],
    "models.product_of_t": ["MeanProductOfT", "ProductOfT"],
    "models.saul_bound": ["SaulBound"],
    "models.sigmoid_belief_network": ["SBN"],
    "models.autoregressive_bits": ["AutoregressiveBits"],
    "models.generator_networks": ["AffineGenerator", "FlowGenerator", "InverseTransform"],
    "models.supervised_generator": ["SupervisedGenerator"],
    "models.vae": ["VAE"],
    "models.discretised_logistic": ["DiscretisedLogistic"],
    "models.variational_rnn": ["VariationalRNN"],
    "models.padded_frames": ["PaddedFrames"],
    "models.draw": ["DRAW"],
    "models.hierarchical_vae": ["HierarchicalVAE"],
    "models.conditional_vae": ["ConditionalVAE"],
}  # fmt: skip
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
_FOLDERS = (
    "autoregressive", "compiled", "data", "energy", "evaluation", "mcmc", "models", "nets", "objectives", "processes",
    "recipes", "registry", "train",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"pyro_dgm has no {name!r}; it has {', '.join(sorted(_MODULE))}")


def __dir__() -> list[str]:
    return sorted([*_MODULE, *_FOLDERS, "__version__"])


__all__ = sorted(_MODULE)
