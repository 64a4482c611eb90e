"""Base models and the adapters trained for them."""
