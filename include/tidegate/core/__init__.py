"""Values, contracts, configuration and errors. Imports pydantic, PyYAML and what checks their texts."""
