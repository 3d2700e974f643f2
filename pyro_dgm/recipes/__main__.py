"""Print the table of tutorials/results.md: ``python -m pyro_dgm.recipes``."""

from .table import table

if __name__ == "__main__":
    print(table())
