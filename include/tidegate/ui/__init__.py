"""Pages as HTML: the corpus pages in the Airflow UI."""
