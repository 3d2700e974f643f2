"""Print the results table of the README: ``python -m pyro_dgm.recipes``."""

from .table import table

if __name__ == "__main__":
    print(table())
