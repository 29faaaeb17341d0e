"""Make image-difference data, fine-tune multimodal models on it, measure what that did."""

__version__ = "0.1.0"
