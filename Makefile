PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
BIN := .venv/bin
INSTALLED := .venv/.installed

export BENTOML_DO_NOT_TRACK := True
export GIT_PYTHON_REFRESH := quiet

.PHONY: help setup demo serve test check lint format types bench lock clean image image-check audit kubernetes rehearse

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(INSTALLED) ## make .venv from the hash-locked requirements

$(INSTALLED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

demo: setup ## train on generated data, track, register, promote, build, serve, score, stop
	PYTHONPATH=client $(BIN)/python -m examples.demo

serve: setup ## serve the champion on HOST:PORT
	$(BIN)/bentoml serve . --host $(HOST) --port $(PORT)

test: setup ## every test
	$(BIN)/python -m pytest

check: lint types ## what CI runs: lint, types, tests with coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup
	$(BIN)/mypy

bench: setup ## compare with the alternatives, into benchmarks/results and README.md; needs h2load
	$(BIN)/python -m benchmarks run
	$(BIN)/python -m benchmarks variants
	$(BIN)/python -m benchmarks soak
	$(BIN)/python -m benchmarks report

lock: setup ## resolve pyproject.toml into requirements/
	cd requirements && $(MAKE) --no-print-directory -f ../Makefile lock-files BIN=../$(BIN)

.PHONY: lock-files
lock-files: COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes ../pyproject.toml
lock-files: TOOLS = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
lock-files:
	$(COMPILE) --output-file serving.txt
	$(COMPILE) --all-extras --constraint serving.txt --output-file dev.txt
	$(COMPILE) --extra offline --constraint dev.txt --output-file offline.txt
	$(TOOLS) sbom.in --output-file sbom.txt
	$(TOOLS) deploy.in --output-file deploy.txt

BENTO ?= credit_scoring:latest
BASE ?= docker.io/library/python:3.11-slim

image: setup ## build the slim images of BENTO on BASE; needs buildah and podman
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m deploy.image build --bento $(BENTO) --base $(BASE)

image-check: setup ## run IMAGE hardened: size, contents, start, SIGTERM under load, the contract tests
	$(BIN)/python -m deploy.image check $(IMAGE)
	CREDIT_SCORING_IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/deploy/test_image.py

TOOLS := .venv-deploy

$(TOOLS)/.installed: requirements/deploy.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

audit: setup $(TOOLS)/.installed ## known vulnerabilities of what the serving image installs; fails where their data cannot be reached
	$(BIN)/python -m deploy.image audit --tools $(TOOLS)/bin

kubernetes: setup $(TOOLS)/.installed ## hold every overlay to Kubernetes' schemas and checkov's policies; needs kubectl
	$(BIN)/python -m deploy.kubernetes rules
	$(BIN)/python -m deploy.kubernetes check --tools $(TOOLS)/bin

rehearse: setup ## play FIRST and SECOND (images) on a real API server and kubelet of KUBERNETES (folder); needs root
	$(BIN)/python -m deploy.rehearsal --binaries $(KUBERNETES) --first $(FIRST) --second $(SECOND)

clean: ## remove what the targets made, the virtual environment included
	rm -rf .venv .venv-deploy .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov
