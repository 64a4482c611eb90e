"""A laptop's Airflow, started, configured, watched and stopped by ``make run``: by process and REST only."""
