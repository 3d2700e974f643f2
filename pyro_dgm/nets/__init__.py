"""Networks that models share: bodies, attention windows, recurrent cells."""

from .bodies import ACTIVATIONS, Convolutions, TransposedConvolutions, classifier, mlp, picture_sizes

__all__ = ["ACTIVATIONS", "Convolutions", "TransposedConvolutions", "classifier", "mlp", "picture_sizes"]
