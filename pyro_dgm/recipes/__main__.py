"""Print the table of tutorials/results.md, with ``--distances`` that of distances from published figures, or with
``--figure FILE`` draw the picture: ``python -m pyro_dgm.recipes``."""

import sys

from .figure import draw
from .table import distances, table

if __name__ == "__main__":
    if sys.argv[1:2] == ["--figure"] and len(sys.argv) == 3:
        draw(sys.argv[2])
    elif sys.argv[1:] in ([], ["--distances"]):
        print(distances() if sys.argv[1:] else table())
    else:
        sys.exit("usage: python -m pyro_dgm.recipes [--distances | --figure FILE]")
