"""``airflow_settings.yaml``: Astronomer's format, read strictly."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tidegate.core.errors import ConfigInvalidError
from tidegate.local import walk
from tidegate.local.settings import AirflowSettings, ConnectionSetting, PoolSetting, VariableSetting, load_settings

WHOLE = """
airflow:
  connections:
    - conn_id: tidegate_s3
      conn_type: aws
      conn_host:
      conn_port: 443
      conn_extra: {region_name: eu-west-1}
  pools:
    - pool_name: embed
      pool_slot: 1
  variables:
    - variable_name: tidegate_store
      variable_value: .tidegate/store
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "airflow_settings.yaml"


def test_connections_pools_and_variables_are_read_and_empty_fields_are_absent(path: Path) -> None:
    path.write_text(WHOLE)
    assert load_settings(path) == AirflowSettings(
        connections=(
            ConnectionSetting(
                conn_id="tidegate_s3", conn_type="aws", conn_port=443, conn_extra={"region_name": "eu-west-1"}
            ),
        ),
        pools=(PoolSetting(pool_name="embed", pool_slot=1, pool_description=""),),
        variables=(VariableSetting(variable_name="tidegate_store", variable_value=".tidegate/store"),),
    )


def test_a_list_may_be_empty_or_left_out(path: Path) -> None:
    path.write_text("airflow:\n  connections:\n  variables: []\n")
    assert load_settings(path) == AirflowSettings()


def test_the_store_of_the_environment_wins_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_STORE", raising=False)
    written = walk._settings(ROOT)
    assert [item.variable_value for item in written.variables] == [".tidegate/store"]
    monkeypatch.setenv("TIDEGATE_STORE", "s3://bucket/x")
    given = walk._settings(ROOT)
    assert [item.variable_value for item in given.variables] == ["s3://bucket/x"]
    assert (given.pools, given.connections) == (written.pools, written.connections)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, ["No such file"]),
        (b"", ["airflow"]),
        (b"- a\n", ["airflow"]),
        (b"just text\n", ["airflow"]),
        (b"airflo: {}\n", ["airflow"]),
        (b"airflow: [1, 2\n", ["line"]),
        (b"airflow: text\n", ["airflow", "text"]),
        (b"\xff\xfe\n", ["UTF-8"]),
        (b"airflow: {pool: []}\n", ["pool", "pools"]),
        (b"airflow: {pools: {pool_name: a}}\n", ["pools", "list"]),
        (b"airflow: {pools: [{pool_name: a}]}\n", ["pools.0.pool_slot", "missing"]),
        (b"airflow: {pools: [{pool_name: a, pool_slot: many}]}\n", ["pools.0.pool_slot", "integer", "many"]),
        (
            b"airflow: {pools: [{pool_name: a, pool_slots: 1, pool_slot: 1}]}\n",
            ["pools.0.pool_slots", "valid: pool_description, pool_name, pool_slot"],
        ),
        (
            b"airflow: {variables: [{variable_name: a, variable_value: 5}]}\n",
            ["variables.0.variable_value", "string", "5"],
        ),
        (b"airflow: {connections: [{conn_id: a, conn_type: aws, conn_uri: 'aws://x'}]}\n", ["connections.0.conn_uri"]),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_value(
    content: bytes | None, named: list[str], path: Path
) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigInvalidError) as caught:
        load_settings(path)
    assert caught.value.what.startswith(f"{path}: ")
    assert "\n" not in caught.value.what
    assert [part for part in named if part not in caught.value.what] == [], caught.value.what
    assert [
        word for word in ("NoneType", "subscriptable", "attribute", "indices", "tuple") if word in caught.value.what
    ] == []
