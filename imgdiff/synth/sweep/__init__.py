"""Sweeps over thresholds: what is missing is computed once, every row is decided by look-up."""
