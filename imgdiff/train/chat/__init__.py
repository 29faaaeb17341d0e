"""Asking a checkpoint about an image or a pair, at the terminal."""
