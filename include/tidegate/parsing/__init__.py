"""Bytes to titled, structured blocks, one module per format; what cannot be parsed raises ``QuarantineError``."""
