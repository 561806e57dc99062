PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
BIN := .venv/bin
INSTALLED := .venv/.installed

export BENTOML_DO_NOT_TRACK := True
export GIT_PYTHON_REFRESH := quiet

.PHONY: help setup demo serve test check lint format types bench lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

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
	$(TOOLS) tracking.in --constraint dev.txt --output-file tracking.txt
	$(TOOLS) infrastructure.in --output-file infrastructure.txt

INFRASTRUCTURE := .venv-infrastructure
PLUGINS ?=
TERRAFORM_OPTIONS = $(if $(PLUGINS),--plugins $(PLUGINS))
COMPOSE := deploy/compose/compose.yaml
TARGET ?= ecs
export REGISTRY_AUTH_FILE ?= $(HOME)/.docker/config.json

$(INFRASTRUCTURE)/.installed: requirements/infrastructure.txt
	$(PYTHON) -m venv --clear $(INFRASTRUCTURE)
	$(INFRASTRUCTURE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.PHONY: infrastructure-tools terraform terraform-rehearse compose-check workflows capacity release-notes release-check
.PHONY: bento login push sign verify deploy rollout-check promote

infrastructure-tools: $(INFRASTRUCTURE)/.installed ## the tools of the targets below, in an environment of their own

terraform: setup infrastructure-tools ## fmt, validate, test and policies of deploy/terraform; PLUGINS=DIR where the registry is out of reach
	$(BIN)/python -m deploy.infrastructure check $(TERRAFORM_OPTIONS)
	$(INFRASTRUCTURE)/bin/checkov --quiet --compact --skip-download --framework terraform --directory deploy/terraform

terraform-rehearse: setup infrastructure-tools ## apply, plan again and destroy on moto, into deploy/terraform/rehearsal.json
	$(BIN)/python -m deploy.infrastructure rehearse $(TERRAFORM_OPTIONS)

compose-check: setup infrastructure-tools ## hold deploy/compose to the specification, and to what it must be
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE)
	REHEARSE=1 $(BIN)/python -m pytest tests/deploy/test_compose.py

workflows: infrastructure-tools ## hold .github/workflows to GitHub's schema, and look for weaknesses
	$(INFRASTRUCTURE)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(INFRASTRUCTURE)/bin/zizmor --offline --quiet --min-severity medium .github/workflows

capacity: setup ## pods and cost for a load, from benchmarks/results into docs/capacity.md
	$(BIN)/python -m deploy.capacity

release-notes: setup ## print the notes of VERSION
	@$(BIN)/python -m deploy.release notes $(VERSION)

release-check: setup ## whether TAG may be released
	$(BIN)/python -m deploy.release check $(TAG)

bento: setup ## the champion of the registry into the store, and a Bento of it and this code
	$(BIN)/python -m training import
	$(BIN)/bentoml build

login: infrastructure-tools ## log in to REGISTRY, an ECR
	$(INFRASTRUCTURE)/bin/aws ecr get-login-password | podman login --username AWS --password-stdin $(firstword $(subst /, ,$(REGISTRY)))

push: ## push IMAGE to REGISTRY; its reference by digest goes into build/pushed
	@mkdir -p build
	podman push --digestfile build/digest $(IMAGE) $(REGISTRY)/$(notdir $(IMAGE))
	printf '%s@%s\n' "$(REGISTRY)/$(firstword $(subst :, ,$(notdir $(IMAGE))))" "$$(cat build/digest)" > build/pushed

sign: ## sign IMAGE, given by digest, with the workflow's identity
	cosign sign --yes $(IMAGE)

verify: ## whether SIGNER signed IMAGE
	cosign verify --certificate-oidc-issuer https://token.actions.githubusercontent.com \
		--certificate-identity-regexp '^$(SIGNER)' $(IMAGE) > /dev/null

deploy: setup infrastructure-tools ## put IMAGE in charge of GROUP on TARGET (ecs or kubernetes), and back if it does not become ready
	PATH=$(CURDIR)/$(INFRASTRUCTURE)/bin:$$PATH $(BIN)/python -m deploy.release deploy $(TARGET) $(IMAGE) --group $(GROUP)

rollout-check: setup infrastructure-tools ## roll out, fail and go back on an ECS of moto
	REHEARSE=1 $(BIN)/python -m pytest tests/deploy/test_rollout.py

promote: setup ## judge model VERSION on DATA, and make it champion if it passes the gates
	$(BIN)/python -m training promote --version $(VERSION) --data $(DATA)

clean: ## remove what the targets made, the virtual environment included
	rm -rf .venv .venv-infrastructure build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov
