"""A laptop's Airflow: started, configured, watched and stopped by ``make run``. Talks to Airflow by process and REST only."""
