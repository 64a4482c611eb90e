"""Tidegate in the Airflow UI: the pages behind the Data Docs link of a `validate` task."""

from airflow.plugins_manager import AirflowPlugin

from tidegate.orchestration.data_docs import PREFIX, PagesApp


class TidegatePlugin(AirflowPlugin):
    """What Airflow loads."""

    name = "tidegate"
    fastapi_apps = [{"app": PagesApp(), "url_prefix": PREFIX, "name": "Tidegate"}]  # noqa: RUF012 - Airflow's form
