"""Measures. Pure functions over rankings and answers."""
