"""``airflow_settings.yaml`` in Astronomer's format: the Astro CLI applies it in its containers, ``make run`` here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tidegate.core.errors import ConfigInvalidError


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
    conn_uri: str | None = None
    conn_extra: dict[str, Any] | None = None


class AirflowSettings(_Entry):
    """Everything that the project needs in an Airflow."""

    connections: tuple[ConnectionSetting, ...] = ()
    pools: tuple[PoolSetting, ...] = ()
    variables: tuple[VariableSetting, ...] = ()


def load_settings(path: Path) -> AirflowSettings:
    """Read the file; raise ``ConfigInvalidError`` naming what is wrong."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))["airflow"]
        return AirflowSettings.model_validate({key: value or () for key, value in loaded.items()})
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigInvalidError(f"{path}: not readable: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigInvalidError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
