"""The recipe of the mini family: trains every small checkpoint from scratch on the world."""
