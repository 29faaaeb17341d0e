"""Captions to image pairs to difference instructions."""
