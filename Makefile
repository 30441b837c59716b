# Axial. `make demo` shows the whole way, `make test` proves it, `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOS := $(wildcard proto/axial/v1/*.proto)
STUBS := $(PROTOS:.proto=_pb2.py)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip --quiet
# Tests in parallel: one worker per core, each test file in one worker.
WORKERS ?= auto
# How long each fuzzer runs.
FUZZ_SECONDS ?= 60

# Where NVIDIA's compiler for tests without a GPU is listed.
RTX := requirements-tensorrt-rtx.lock

.PHONY: help setup tensorrt-rtx proto models demo up lint format test test-data fuzz soak bench docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) proto ## make the virtual environment and the generated stubs

$(READY): pyproject.toml requirements.lock requirements-nodeps.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Axial needs Python 3.11; found $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing: install the package python3.11-venv."; exit 1; }
	@echo "Installing packages into $(VENV) (once, some minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps -r requirements-nodeps.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

tensorrt-rtx: setup ## NVIDIA's compiler for tests without a GPU (its licence: docs/tensorrt.md)
	@$(PIP) install --no-deps -r $(RTX)

proto: $(STUBS) ## generate the gRPC stubs

proto/axial/v1/%_pb2.py: proto/axial/v1/%.proto | $(READY)
	@$(BIN)/python -m grpc_tools.protoc -I proto \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=proto --grpc_python_out=proto \
	  --mypy_out=quiet:proto --mypy_grpc_out=quiet:proto $<

models: setup ## build the models for the CPU (cached)
	@$(BIN)/axial models build

demo: setup ## a study in, a segmentation and a report out (STUDY=dir, KEEP=1)
	@$(BIN)/axial demo $(if $(STUDY),--study "$(STUDY)") $(if $(KEEP),--keep)

up: setup ## run the stack until Ctrl-C
	@$(BIN)/axial up

lint: setup ## ruff, pyright (strict), import-linter, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m services.cli.generated_docs --check

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup models ## every test, on the real parts
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup tests/unit tests/property tests/integration
	$(BIN)/pytest tests/e2e tests/cluster

test-data: setup ## the scans and weights that some tests need, from their public places
	@$(BIN)/python -m tests.fetch_data

fuzz: setup ## fuzz what parses strangers' bytes (FUZZ_SECONDS=60 for each)
	@for file in tests/fuzz/fuzz_*.py; do \
	  name=$$(basename $$file .py); finds=build/fuzz/$$name; mkdir -p $$finds; \
	  echo "$$name: $(FUZZ_SECONDS) s; what it finds lies in $$finds"; \
	  $(BIN)/python -m tests.fuzz.$$name $$finds -artifact_prefix=$$finds/ -timeout=20 \
	    -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
	    -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

soak: setup ## what takes long: power cuts, killed receivers, 4 GiB over HTTP, a busy machine
	RECEIVER_KILLS=200 $(BIN)/pytest -o timeout=7200 tests/integration/listener/receiving/test_receivers_killed.py
	POWER_CUTS=200 $(BIN)/pytest -o timeout=3600 tests/integration/listener/registering/test_power_cut.py
	SOAK_GIB=4 $(BIN)/pytest tests/integration/listener/stow/test_stow_memory.py
	REVISIONS=2000 $(BIN)/pytest -o timeout=1800 tests/integration/orchestrator/test_after_an_outage.py
	SEND_ASSOCIATIONS=200 $(BIN)/pytest -o timeout=1800 tests/integration/dimse/test_busy_machine.py

bench: setup models ## every figure, beside its peer; writes build/bench/*.json
	$(BIN)/python -m tests.benchmarks

docs: setup ## write the generated pages
	$(BIN)/python -m services.cli.generated_docs

lock: ## renew requirements.lock from this environment
	@$(BIN)/pip freeze --exclude-editable \
	  | grep -viE '^(nvidia-pytriton|deepbet|tensorrt-stubs|tensorrt.rtx.*|dynamic.network.architectures|axial)==' \
	  | sed -E 's/\+cpu$$//' > requirements.lock

clean: ## remove what was built and the demo's data
	rm -rf build axial-data
