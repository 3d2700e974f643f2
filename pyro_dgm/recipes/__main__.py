"""Print the table of tutorials/results.md, or with ``--figure FILE`` draw its picture: ``python -m pyro_dgm.recipes``."""

import sys

from .figure import draw
from .table import table

if __name__ == "__main__":
    if sys.argv[1:2] == ["--figure"] and len(sys.argv) == 3:
        draw(sys.argv[2])
    elif len(sys.argv) == 1:
        print(table())
    else:
        sys.exit("usage: python -m pyro_dgm.recipes [--figure FILE]")
