"""The models as scikit-learn's estimators: densities, features, classifiers, imputers; for any model that can be one."""

from .density import DensityEstimator
from .features import FeatureTransformer
from .imputer import ModelImputer
from .model_classifier import ModelClassifier
from .rbm_classifier import RBMClassifier
from .rbm_transformer import RBMTransformer

__all__ = [
    "DensityEstimator",
    "FeatureTransformer",
    "ModelClassifier",
    "ModelImputer",
    "RBMClassifier",
    "RBMTransformer",
]
