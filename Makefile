PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
BIN := .venv/bin
INSTALLED := .venv/.installed

export BENTOML_DO_NOT_TRACK := True
export GIT_PYTHON_REFRESH := quiet

.PHONY: help setup demo serve test unit check lint format types bench bench-quick alerts loop faults records book-kills spark-check engines-check fuzz mutants lock clean

##@ Set up and run

help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "%s%s\n", gap, substr($$0, 5); gap = "\n"} /^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv from the hash-locked requirements

$(INSTALLED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

demo: visible setup ## train on generated data, track, register, promote, build, serve, score, stop
	PYTHONPATH=client $(BIN)/python -m examples.demo

.PHONY: visible
visible:
	@case "$(CURDIR)/" in */.*) echo "BentoML builds nothing below a folder whose name begins with a dot: move $(CURDIR)" >&2; exit 1;; esac

serve: setup ## serve the champion on HOST:PORT
	$(BIN)/bentoml serve . --host $(HOST) --port $(PORT)

##@ Test

# Tests of one file stay in one process: they share what is slow to make.
PROCESSES ?= logical
SHARED := -n $(PROCESSES) --maxprocesses 4 --dist loadfile

test: setup ## every test, in PROCESSES processes (all cores, at most 4)
	$(BIN)/python -m pytest $(SHARED)

unit: setup ## the tests that start no service and train no model, in a minute
	$(BIN)/python -m pytest $(SHARED) -m unit

check: lint types ## what CI runs: lint, types, tests with coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(SHARED)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: setup ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup ## mypy --strict
	$(BIN)/mypy

FUZZ_REQUESTS ?= 100000

alerts: setup ## plant faults under load, and watch a real Prometheus and Alertmanager tell of them
	$(BIN)/python -m pytest tests/deploy/observability/test_end_to_end.py -q

loop: setup ## drift, alarm, retraining, shadow, comparison, promotion and rollback under traffic, into docs/loop.json
	LOOP_RESULTS=docs/loop.json $(BIN)/python -m pytest tests/e2e/test_loop.py --timeout 0 -q

faults: setup ## let things go wrong under load, into docs/faults.json and docs/explanation/faults.md; needs root, h2load, faketime and strace
	REHEARSE=1 FAULT_RESULTS=docs/faults.json $(BIN)/python -m pytest tests/faults --timeout 0 -q

# The model that a million decisions are replayed with: the folder of an artefact, and a file of applications.
REPLAY_MODEL ?=
REPLAY_APPLICATIONS ?=

records: setup ## plant 1,000 changes into decision logs, verify and replay a million records, kill workers 50 times, into docs/records.json
	PLANTED_CHANGES=1000 RECORDS_RESULTS=docs/records.json $(BIN)/python -m pytest tests/decision_log/test_planted.py --timeout 0 -q
	VERIFIED_RECORDS=1000000 RECORDS_RESULTS=docs/records.json $(BIN)/python -m pytest tests/decision_log/test_scale.py --timeout 0 -q
	REPLAYED_RECORDS=1000000 REPLAY_MODEL=$(REPLAY_MODEL) REPLAY_APPLICATIONS=$(REPLAY_APPLICATIONS) RECORDS_RESULTS=docs/records.json $(BIN)/python -m pytest tests/decision_log/test_long_replay.py --timeout 0 -q
	SERVED_DECISIONS=10000 RECORDS_RESULTS=docs/records.json $(BIN)/python -m pytest tests/e2e/test_replay.py --timeout 0 -q
	KILLS=50 RECORDS_RESULTS=docs/records.json $(BIN)/python -m pytest tests/e2e/test_provable_after_kills.py --timeout 0 -q

BOOK_KILLS ?= 20

book-kills: setup ## kill batch jobs of one and of two processes BOOK_KILLS times each, into docs/book-kills.json
	KILLS=$(BOOK_KILLS) BOOK_RESULTS=docs/book-kills.json $(BIN)/python -m pytest tests/scoring/test_batch_kills.py --timeout 0 -q

fuzz: setup ## send FUZZ_REQUESTS hostile requests to the service, into docs/fuzz.json and docs/framing.json
	FUZZ_REQUESTS=$(FUZZ_REQUESTS) FUZZ_RESULTS=docs/fuzz.json $(BIN)/python -m pytest tests/e2e/test_fuzz.py --timeout 0 -q
	FRAMING_REQUESTS=$(FUZZ_REQUESTS) FRAMING_RESULTS=docs/framing.json $(BIN)/python -m pytest tests/e2e/test_framing_fuzz.py --timeout 0 -q
	INNOCENT_ANSWERS=10000 FRAMING_RESULTS=docs/framing.json $(BIN)/python -m pytest tests/e2e/test_behind_nginx.py --timeout 0 -q

SPARK_TOOLS := .venv-spark
ENGINES = ENGINE_APPLICATIONS=100000 ENGINE_RESULTS=docs/engines.json $(BIN)/python -m pytest --timeout 0 -q

$(SPARK_TOOLS)/.installed: requirements/spark.txt
	$(PYTHON) -m venv --clear $(SPARK_TOOLS)
	$(SPARK_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

spark-check: setup $(SPARK_TOOLS)/.installed ## 100,000 applications on a local Spark with the wheel, into docs/engines.json; needs Java 17
	$(ENGINES) tests/engines/test_spark.py

engines-check: setup ## 100,000 applications by the service and by every engine but Spark, into docs/engines.json
	$(ENGINES) tests/engines/test_every_engine.py

##@ Measure

bench: setup ## compare with the alternatives, into benchmarks/results and benchmarks/README.md
	$(BIN)/python -m benchmarks run
	$(BIN)/python -m benchmarks variants
	$(BIN)/python -m benchmarks soak
	$(BIN)/python -m benchmarks book
	-$(BIN)/python -m benchmarks generators # needs h2load
	$(BIN)/python -m benchmarks report

bench-quick: setup ## compare with the peers that the bars need, in short windows and without the soak
	$(BIN)/python -m benchmarks run --seconds 2 --rounds 3 --peers service asgi_floor fastapi_scorer original_design bentoml_pyfunc empty_bentoml
	-$(BIN)/python -m benchmarks generators --windows 5 # needs h2load
	$(BIN)/python -m benchmarks report

MUTANTS ?= 150
MUTANT_SEED ?= 1

mutants: setup ## change MUTANTS places of each package, one at a time, and count what the tests notice, into docs/mutants.json
	nice -n 10 $(BIN)/python -m tests.mutation --sample $(MUTANTS) --seed $(MUTANT_SEED) --into docs/mutants.json

##@ Keep up to date

UPGRADE ?=

lock: setup ## resolve pyproject.toml into requirements/ (UPGRADE=1: to the newest versions)
	cd requirements && $(MAKE) --no-print-directory -f ../Makefile lock-files BIN=../$(BIN)

.PHONY: lock-files
lock-files: COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade) ../pyproject.toml
lock-files: OTHERS = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade)
lock-files:
	$(COMPILE) --output-file serving.txt
	$(COMPILE) --all-extras --constraint serving.txt --output-file dev.txt
	$(COMPILE) --extra offline --constraint dev.txt --output-file offline.txt
	$(OTHERS) sbom.in --output-file sbom.txt
	$(OTHERS) deploy.in --output-file deploy.txt
	$(OTHERS) tracking.in --constraint dev.txt --output-file tracking.txt
	$(OTHERS) infrastructure.in --output-file infrastructure.txt
	$(OTHERS) docs.in --output-file docs.txt
	$(OTHERS) spark.in --constraint serving.txt --output-file spark.txt

clean: ## remove what the targets made, the virtual environments included
	rm -rf .venv .venv-deploy .venv-infrastructure .venv-docs .venv-spark build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov

HERE := $(dir $(lastword $(MAKEFILE_LIST)))
include $(HERE)deploy/targets.mk $(HERE)docs/targets.mk
