"""``python -m pyro_dgm.cli``."""

import sys

from .main import main

sys.exit(main())
