"""The ``pyro-dgm`` command."""

from .main import main

__all__ = ["main"]
