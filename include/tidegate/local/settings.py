"""``airflow_settings.yaml`` in Astronomer's format: the Astro CLI applies it in its containers, ``make run`` here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tidegate.core.errors import ConfigInvalidError
from tidegate.core.yaml_files import explain, read_mapping


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolSetting(_Entry):
    """One pool."""

    pool_name: str
    pool_slot: int
    pool_description: str = ""


class VariableSetting(_Entry):
    """One variable."""

    variable_name: str
    variable_value: str


class ConnectionSetting(_Entry):
    """One connection."""

    conn_id: str
    conn_type: str
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: str | None = None
    conn_port: int | None = None
    conn_extra: dict[str, Any] | None = None


class AirflowSettings(_Entry):
    """Everything that the project needs in an Airflow."""

    connections: tuple[ConnectionSetting, ...] = ()
    pools: tuple[PoolSetting, ...] = ()
    variables: tuple[VariableSetting, ...] = ()

    def variable(self, name: str) -> str:
        """Return a variable's value; raise ``ConfigInvalidError`` if there is none of that name."""
        for setting in self.variables:
            if setting.variable_name == name:
                return setting.variable_value
        raise ConfigInvalidError(f"airflow_settings.yaml has no variable {name!r}")


class _SettingsFile(_Entry):
    airflow: AirflowSettings


def load_settings(path: Path) -> AirflowSettings:
    """Read the file; raise ``ConfigInvalidError`` naming what is wrong."""
    loaded = read_mapping(path)
    if isinstance(loaded.get("airflow"), dict):
        loaded["airflow"] = {key: () if value is None else value for key, value in loaded["airflow"].items()}
    try:
        return _SettingsFile.model_validate(loaded).airflow
    except ValidationError as error:
        raise ConfigInvalidError(f"{path}: {explain(error, _SettingsFile)}") from error
