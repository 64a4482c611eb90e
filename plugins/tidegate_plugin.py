"""Tidegate in the Airflow UI: a page per corpus, evaluation reports, and what is behind the Data Docs links."""

from airflow.plugins_manager import AirflowPlugin

from tidegate.orchestration.data_docs import PREFIX
from tidegate.orchestration.pages import PagesApp, navigation


class TidegatePlugin(AirflowPlugin):
    """What Airflow loads."""

    name = "tidegate"
    fastapi_apps = [{"app": PagesApp(), "url_prefix": PREFIX, "name": "Tidegate"}]  # noqa: RUF012 - Airflow's form
    react_apps = [navigation()]  # noqa: RUF012 - Airflow's form
