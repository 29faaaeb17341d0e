"""The procedural world, its language, and the recipe of the mini model family."""
