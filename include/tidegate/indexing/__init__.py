"""Embedders, immutable segments, snapshots and search. Owns numpy, faiss, pyarrow, onnxruntime and tokenizers."""
