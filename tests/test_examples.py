"""The examples of docs/gpu-workers.md name what the GPU image, its lock and the settings really have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tidegate.core.config import CorpusConfig, load_corpus
from tidegate.core.training_config import TrainingConfig
from tidegate.local.settings import load_settings

EXAMPLES = ROOT / "docs" / "examples"
DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text()
LOCK = "requirements-gpu.txt"


@pytest.fixture(scope="module")
def corpus() -> CorpusConfig:
    return load_corpus(EXAMPLES / "corpus-gpu.yaml")


@pytest.fixture(scope="module")
def training(corpus: CorpusConfig) -> TrainingConfig:
    assert corpus.training
    return corpus.training


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    (found,) = yaml.safe_load((EXAMPLES / "celery-gpu.yaml").read_text())["services"].values()
    return dict(found)


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLES / "gpu-pod-template.yaml").read_text()))


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / LOCK).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][a-z0-9.]*", line)] == []
    return dict(line.split("==") for line in lines)


def test_the_gpu_lock_holds_what_is_asked_for_with_cuda_of_the_images_version() -> None:
    lines = (ROOT / "requirements-gpu.in").read_text().splitlines()
    locked = pins()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert Requirement("unsloth==2026.10.9") in wanted
    wrong = [str(one) for one in wanted if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))]
    assert wrong == []
    (cuda,) = re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)\.\d+-runtime-\w+$", DOCKERFILE, re.MULTILINE)
    assert locked["cuda-toolkit"].startswith(f"{cuda}.")
    assert not {"apache-airflow", "faiss-cpu", "boto3"} & locked.keys()


def test_the_gpu_image_passes_hadolint_and_ends_as_a_plain_user_that_never_trains_on_processors() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    linted = subprocess.run([hadolint, ROOT / "Dockerfile.gpu"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["50000"]
    assert re.search(r"^    UNSLOTH_DISABLE_CPU_FALLBACK=1 ", DOCKERFILE, re.MULTILINE)
    assert f"/usr/local/training/bin/pip install --no-cache-dir --no-deps --requirement {LOCK}" in DOCKERFILE
    assert not re.search(r"tidegate setup|requirements-models|huggingface|\bhf ", DOCKERFILE)


def test_the_corpus_trains_with_the_interpreter_that_the_image_installs(training: TrainingConfig) -> None:
    folders = re.findall(r"python3\.11 -m venv (\S+)", DOCKERFILE)
    (trains,) = (
        folder for folder in folders if f"{folder}/bin/pip install --no-cache-dir --no-deps --requ" in DOCKERFILE
    )
    assert training.python == f"{trains}/bin/python"
    installed = "install --no-cache-dir --no-deps --no-build-isolation --editable ."
    assert [folder for folder in folders if f"{folder}/bin/pip {installed}" not in DOCKERFILE] == []
    assert (training.backend, training.precision, training.packing) == ("unsloth", "bfloat16", True)
    assert f"`{trains}`" in (ROOT / "docs" / "gpu-workers.md").read_text()


def test_corpus_worker_and_settings_agree_on_queue_and_pool(training: TrainingConfig, service: dict[str, Any]) -> None:
    command = service["command"]
    assert command[command.index("--queues") + 1] == training.queue == "gpu"
    assert command[command.index("--concurrency") + 1] == "1"
    (by_default,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert yaml.safe_load(by_default) == command
    pools = {pool.pool_name: pool.pool_slot for pool in load_settings(ROOT / "airflow_settings.yaml").pools}
    assert pools[training.pool] == 1


def test_the_celery_worker_is_built_from_the_gpu_image_and_takes_one_gpu(service: dict[str, Any]) -> None:
    build = service["build"]
    assert (EXAMPLES / build["context"] / build["dockerfile"]).resolve() == ROOT / "Dockerfile.gpu"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert service["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"


def test_the_pod_runs_airflows_container_on_one_gpu_as_the_images_user(pod: dict[str, Any]) -> None:
    (container,) = pod["spec"]["containers"]
    assert (pod["kind"], container["name"], pod["spec"]["restartPolicy"]) == ("Pod", "base", "Never")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert f"USER {pod['spec']['securityContext']['runAsUser']}" in DOCKERFILE.splitlines()
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_every_worker_finds_the_base_model_where_the_corpus_names_it(
    corpus: CorpusConfig, service: dict[str, Any], pod: dict[str, Any]
) -> None:
    mounts = [volume.rpartition("}:")[2].partition(":")[0] for volume in service["volumes"]]
    mounts += [
        mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "models"
    ]
    assert mounts == ["/models", "/models"]
    assert corpus.base_model.model.startswith("path:/models/")
    assert "TIDEGATE_MODELS=/models/prepared " in DOCKERFILE
