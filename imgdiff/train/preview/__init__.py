"""The first samples of a run, shown as the model will get them."""
