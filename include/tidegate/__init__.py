"""Tidegate: a retrieval index and LoRA adapters kept fresh from the same changing documents."""

__version__ = "0.1.0"
