"""Values, contracts, configuration and errors. Imports the standard library, pydantic and PyYAML; nothing of ours."""
