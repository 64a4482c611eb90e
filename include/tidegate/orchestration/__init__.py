"""Airflow's side: the only package that imports airflow. DAG files wire what is here; pipelines do the work."""
