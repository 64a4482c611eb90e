"""One module per DAG: what its tasks do, without Airflow. The command line runs the same functions."""
