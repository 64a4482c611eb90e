"""Jobs that run in an interpreter of their own: JSON in, JSON out."""
