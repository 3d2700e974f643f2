"""``python -m pyro_dgm``: the command ``pyro-dgm``."""

import sys

from .cli import main

sys.exit(main())
