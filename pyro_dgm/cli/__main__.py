"""``python -m pyro_dgm.cli``, also under torchrun."""

import sys

from .. import processes
from .main import main

STATUS = main()
if processes.several():
    processes.end(STATUS)
sys.exit(STATUS)
