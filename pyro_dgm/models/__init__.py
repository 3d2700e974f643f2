"""Models: one folder per part of the chapter, one file per family of models, and their shared parts in ``shared``."""
