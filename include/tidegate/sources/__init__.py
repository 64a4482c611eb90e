"""Where documents come from. A source lists without opening, and reads one document on demand."""
