"""Q&A sets: import, validation, evidence and staleness, splits."""
