"""The artifact store and what is kept in it: backends, channels, releases and run records."""
