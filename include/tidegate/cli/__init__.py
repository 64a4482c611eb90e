"""The command line: the pipelines without Airflow."""
