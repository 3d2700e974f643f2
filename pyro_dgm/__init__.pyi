"""The public names, generated from ``__init__.py`` and the models' files by ``python -m tests.public_names``."""

from . import annealing as annealing
from . import autoregressive as autoregressive
from . import data as data
from . import distributions as distributions
from . import energy as energy
from . import evaluation as evaluation
from . import in_jax as in_jax
from . import inference as inference
from . import mcmc as mcmc
from . import models as models
from . import nets as nets
from . import objectives as objectives
from . import optim as optim
from . import processes as processes
from . import recipes as recipes
from . import registry as registry
from . import sklearn as sklearn
from . import train as train
from .annealing import RaiseBound as RaiseBound
from .annealing import annealed_log_weights as annealed_log_weights
from .annealing import log_partition as log_partition
from .annealing import log_weights as log_weights
from .annealing import raise_bound as raise_bound
from .annealing.bidirectional import bidirectional_gap as bidirectional_gap
from .autoregressive import AutoregressiveDistribution as AutoregressiveDistribution
from .autoregressive import Completion as Completion
from .autoregressive import OrderEnsemble as OrderEnsemble
from .distributions.autoregressive_bits import AutoregressiveBits as AutoregressiveBits
from .distributions.discretised_logistic import DiscretisedLogistic as DiscretisedLogistic
from .distributions.padded_frames import PaddedFrames as PaddedFrames
from .energy import AtMostOne as AtMostOne
from .energy import Binary as Binary
from .energy import BoltzmannDistribution as BoltzmannDistribution
from .energy import Categorical as Categorical
from .energy import Convolution as Convolution
from .energy import Dense as Dense
from .energy import Elementwise as Elementwise
from .energy import EnergyDistribution as EnergyDistribution
from .energy import Factored as Factored
from .energy import FreeEnergyDistribution as FreeEnergyDistribution
from .energy import Gaussian as Gaussian
from .energy import Graph as Graph
from .energy import Interaction as Interaction
from .energy import Lateral as Lateral
from .energy import LogPartition as LogPartition
from .energy import Masked as Masked
from .energy import MaxPooled as MaxPooled
from .energy import NegativePhaseError as NegativePhaseError
from .energy import NotEnumerable as NotEnumerable
from .energy import Sparse as Sparse
from .energy import SpikeSlab as SpikeSlab
from .energy import Spin as Spin
from .energy import ThreeWay as ThreeWay
from .energy import Unit as Unit
from .energy import spike_slab_validity as spike_slab_validity
from .evaluation import LogLikelihood as LogLikelihood
from .evaluation import active_units as active_units
from .evaluation import kl_per_latent as kl_per_latent
from .evaluation import log_likelihood as log_likelihood
from .evaluation import to_arviz as to_arviz
from .evaluation.conditional_likelihood import conditional_log_likelihood as conditional_log_likelihood
from .evaluation.conditioning import condition as condition
from .evaluation.conditioning import condition_with_details as condition_with_details
from .in_jax import to_numpyro as to_numpyro
from .inference.saul_bound import SaulBound as SaulBound
from .mcmc import BlockGibbs as BlockGibbs
from .mcmc import GibbsLangevin as GibbsLangevin
from .mcmc import HMC as HMC
from .mcmc import ModelChain as ModelChain
from .mcmc import ParallelTempering as ParallelTempering
from .mcmc import PredictionChain as PredictionChain
from .mcmc import TemperedTransitions as TemperedTransitions
from .mcmc import VectorizedMCMC as VectorizedMCMC
from .models.autoregressive.convolutional_nade import ConvolutionalNADE as ConvolutionalNADE
from .models.autoregressive.fully_visible import FVBN as FVBN
from .models.autoregressive.made import MADE as MADE
from .models.autoregressive.nade import NADE as NADE
from .models.autoregressive.nade_k import NADEk as NADEk
from .models.autoregressive.neural_autoregressive import NeuralAutoregressive as NeuralAutoregressive
from .models.autoregressive.orderless_nade import OrderlessNADE as OrderlessNADE
from .models.autoregressive.rnade import RNADE as RNADE
from .models.autoregressive.rnn_nade import RNNNADE as RNNNADE
from .models.boltzmann.boltzmann_machine import BoltzmannMachine as BoltzmannMachine
from .models.boltzmann.deep_belief_network import DBN as DBN
from .models.boltzmann.deep_boltzmann_machine import DBM as DBM
from .models.boltzmann.rbm import RBM as RBM
from .models.chains.contractive_autoencoder import ContractiveAutoencoder as ContractiveAutoencoder
from .models.chains.denoising_autoencoder import DenoisingAutoencoder as DenoisingAutoencoder
from .models.chains.diffusion_inversion import DiffusionInversion as DiffusionInversion
from .models.chains.gsn import GSN as GSN
from .models.chains.shaped_gsn import ShapedGSN as ShapedGSN
from .models.directed.conditional_vae import ConditionalVAE as ConditionalVAE
from .models.directed.draw import DRAW as DRAW
from .models.directed.generator_networks import AffineGenerator as AffineGenerator
from .models.directed.generator_networks import FlowGenerator as FlowGenerator
from .models.directed.generator_networks import InverseTransform as InverseTransform
from .models.directed.hierarchical_vae import HierarchicalVAE as HierarchicalVAE
from .models.directed.sigmoid_belief_network import SBN as SBN
from .models.directed.supervised_generator import SupervisedGenerator as SupervisedGenerator
from .models.directed.vae import VAE as VAE
from .models.directed.variational_rnn import VariationalRNN as VariationalRNN
from .models.implicit.conditional_gan import ConditionalGAN as ConditionalGAN
from .models.implicit.gan import GAN as GAN
from .models.implicit.gmmn import GMMN as GMMN
from .models.implicit.lapgan import LAPGAN as LAPGAN
from .models.real_valued.coupled_slabs import CoupledSlabRBM as CoupledSlabRBM
from .models.real_valued.gaussian_rbm import GaussianRBM as GaussianRBM
from .models.real_valued.mean_covariance import CovarianceRBM as CovarianceRBM
from .models.real_valued.mean_covariance import MeanCovarianceRBM as MeanCovarianceRBM
from .models.real_valued.product_of_t import MeanProductOfT as MeanProductOfT
from .models.real_valued.product_of_t import ProductOfT as ProductOfT
from .models.real_valued.spike_slab_coding import S3C as S3C
from .models.real_valued.spike_slab_rbm import SpikeSlabRBM as SpikeSlabRBM
from .models.structured.class_rbm import ClassRBM as ClassRBM
from .models.structured.conditional_rbm import ConditionalRBM as ConditionalRBM
from .models.structured.convolutional_dbm import ConvolutionalDBM as ConvolutionalDBM
from .models.structured.convolutional_dbn import ConvolutionalDBN as ConvolutionalDBN
from .models.structured.convolutional_rbm import ConvolutionalRBM as ConvolutionalRBM
from .models.structured.convolutional_spike_slab_rbm import ConvolutionalSpikeSlabRBM as ConvolutionalSpikeSlabRBM
from .models.structured.gated_rbm import GatedRBM as GatedRBM
from .models.structured.joint_gated_rbm import JointGatedRBM as JointGatedRBM
from .models.structured.mixture_rbm import MixtureRBM as MixtureRBM
from .models.structured.pointwise_gated_rbm import PointwiseGatedRBM as PointwiseGatedRBM
from .models.structured.rnn_rbm import RNNRBM as RNNRBM
from .models.structured.rtrbm import RTRBM as RTRBM
from .models.structured.two_group_rbm import TwoGroupRBM as TwoGroupRBM
from .nets.discriminator import Discriminator as Discriminator
from .objectives import CD as CD
from .objectives import Elbo as Elbo
from .objectives import ExactNegativePhase as ExactNegativePhase
from .objectives import NegativePhaseObjective as NegativePhaseObjective
from .objectives import NoiseContrastive as NoiseContrastive
from .objectives import Objective as Objective
from .objectives import PCD as PCD
from .objectives import PseudoLikelihood as PseudoLikelihood
from .objectives import RatioMatching as RatioMatching
from .objectives import negative_phase as negative_phase
from .objectives import pseudo_log_likelihood as pseudo_log_likelihood
from .objectives.criteria.adversarial import Adversarial as Adversarial
from .objectives.criteria.contractive import Contractive as Contractive
from .objectives.criteria.diffusion import StepBound as StepBound
from .objectives.criteria.labelled import Hybrid as Hybrid
from .objectives.criteria.moment_matching import MomentMatching as MomentMatching
from .objectives.criteria.multi_prediction import MultiPrediction as MultiPrediction
from .objectives.criteria.multi_prediction import predictions as predictions
from .objectives.criteria.next_mask import NextMask as NextMask
from .objectives.criteria.order_agnostic import OrderAgnostic as OrderAgnostic
from .objectives.criteria.self_supervised_boosting import SelfSupervisedBoosting as SelfSupervisedBoosting
from .objectives.criteria.shaping import Shaping as Shaping
from .objectives.criteria.walkback import Denoising as Denoising
from .objectives.criteria.walkback import Walkback as Walkback
from .objectives.estimators.multi_sample import BidirectionalHelmholtz as BidirectionalHelmholtz
from .objectives.estimators.multi_sample import DReG as DReG
from .objectives.estimators.multi_sample import IWAE as IWAE
from .objectives.estimators.multi_sample import ReweightedWakeSleep as ReweightedWakeSleep
from .objectives.estimators.multi_sample import VIMCO as VIMCO
from .objectives.estimators.optimal_baseline import OptimalBaseline as OptimalBaseline
from .objectives.estimators.per_datum import PerDatumELBO as PerDatumELBO
from .objectives.estimators.score_function import NVIL as NVIL
from .objectives.estimators.wake_sleep import WakeSleep as WakeSleep
from .objectives.light_elbo import LightELBO as LightELBO
from .objectives.sparsity import Sparsity as Sparsity
from .sklearn.rbm_classifier import RBMClassifier as RBMClassifier
from .sklearn.rbm_transformer import RBMTransformer as RBMTransformer
from .train import TrainingDiverged as TrainingDiverged
from .train import fit as fit
from .train import load as load
from .train import pretrain as pretrain
from .train.callbacks import Callback as Callback
from .train.classify import error_rate as error_rate
from .train.classify import fine_tune as fine_tune
from .train.classify import fit_classifier as fit_classifier
from .train.exporting import export as export
from .train.tune import tune as tune

__version__: str
__all__ = [
    "Adversarial",
    "AffineGenerator",
    "AtMostOne",
    "AutoregressiveBits",
    "AutoregressiveDistribution",
    "BidirectionalHelmholtz",
    "Binary",
    "BlockGibbs",
    "BoltzmannDistribution",
    "BoltzmannMachine",
    "CD",
    "Callback",
    "Categorical",
    "ClassRBM",
    "Completion",
    "ConditionalGAN",
    "ConditionalRBM",
    "ConditionalVAE",
    "Contractive",
    "ContractiveAutoencoder",
    "Convolution",
    "ConvolutionalDBM",
    "ConvolutionalDBN",
    "ConvolutionalNADE",
    "ConvolutionalRBM",
    "ConvolutionalSpikeSlabRBM",
    "CoupledSlabRBM",
    "CovarianceRBM",
    "DBM",
    "DBN",
    "DRAW",
    "DReG",
    "Denoising",
    "DenoisingAutoencoder",
    "Dense",
    "DiffusionInversion",
    "DiscretisedLogistic",
    "Discriminator",
    "Elbo",
    "Elementwise",
    "EnergyDistribution",
    "ExactNegativePhase",
    "FVBN",
    "Factored",
    "FlowGenerator",
    "FreeEnergyDistribution",
    "GAN",
    "GMMN",
    "GSN",
    "GatedRBM",
    "Gaussian",
    "GaussianRBM",
    "GibbsLangevin",
    "Graph",
    "HMC",
    "HierarchicalVAE",
    "Hybrid",
    "IWAE",
    "Interaction",
    "InverseTransform",
    "JointGatedRBM",
    "LAPGAN",
    "Lateral",
    "LightELBO",
    "LogLikelihood",
    "LogPartition",
    "MADE",
    "Masked",
    "MaxPooled",
    "MeanCovarianceRBM",
    "MeanProductOfT",
    "MixtureRBM",
    "ModelChain",
    "MomentMatching",
    "MultiPrediction",
    "NADE",
    "NADEk",
    "NVIL",
    "NegativePhaseError",
    "NegativePhaseObjective",
    "NeuralAutoregressive",
    "NextMask",
    "NoiseContrastive",
    "NotEnumerable",
    "Objective",
    "OptimalBaseline",
    "OrderAgnostic",
    "OrderEnsemble",
    "OrderlessNADE",
    "PCD",
    "PaddedFrames",
    "ParallelTempering",
    "PerDatumELBO",
    "PointwiseGatedRBM",
    "PredictionChain",
    "ProductOfT",
    "PseudoLikelihood",
    "RBM",
    "RBMClassifier",
    "RBMTransformer",
    "RNADE",
    "RNNNADE",
    "RNNRBM",
    "RTRBM",
    "RaiseBound",
    "RatioMatching",
    "ReweightedWakeSleep",
    "S3C",
    "SBN",
    "SaulBound",
    "SelfSupervisedBoosting",
    "ShapedGSN",
    "Shaping",
    "Sparse",
    "Sparsity",
    "SpikeSlab",
    "SpikeSlabRBM",
    "Spin",
    "StepBound",
    "SupervisedGenerator",
    "TemperedTransitions",
    "ThreeWay",
    "TrainingDiverged",
    "TwoGroupRBM",
    "Unit",
    "VAE",
    "VIMCO",
    "VariationalRNN",
    "VectorizedMCMC",
    "WakeSleep",
    "Walkback",
    "active_units",
    "annealed_log_weights",
    "bidirectional_gap",
    "condition",
    "condition_with_details",
    "conditional_log_likelihood",
    "error_rate",
    "export",
    "fine_tune",
    "fit",
    "fit_classifier",
    "kl_per_latent",
    "load",
    "log_likelihood",
    "log_partition",
    "log_weights",
    "negative_phase",
    "predictions",
    "pretrain",
    "pseudo_log_likelihood",
    "raise_bound",
    "spike_slab_validity",
    "to_arviz",
    "to_numpyro",
    "tune",
]
