"""Models, one file a family, in the order of the chapter."""
