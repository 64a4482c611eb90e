"""Bytes to titled, structured blocks; one module per format. A document that cannot be parsed raises ``QuarantineError``."""
