"""The models as scikit-learn's estimators: densities, features, classifiers, imputers; for any model that can be one."""

from ..extras import need

need("pyro_dgm.sklearn", "sklearn")

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
