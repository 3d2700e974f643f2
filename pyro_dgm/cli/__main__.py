"""``python -m pyro_dgm.cli``, also under torchrun."""

from .main import run

run()
