"""Parsed documents to passages: split on structure, within the embedder's limit, with boundaries that survive edits."""
