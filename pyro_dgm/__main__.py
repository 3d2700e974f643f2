"""``python -m pyro_dgm``: the command ``pyro-dgm``."""

from .cli import run

run()
