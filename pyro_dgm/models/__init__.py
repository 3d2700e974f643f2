"""Models, a folder for every part of the chapter and a file for every family; ``shared`` is what they are made of."""
