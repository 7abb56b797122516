# The verbs of this repository, the same on a laptop and in CI. A fresh machine needs Python 3.11+, git and make.
.DEFAULT_GOAL := help
.PHONY: help install demo test prove prove-production check dev production bench bench-gpu audit sbom lock picture

BIN := .venv/bin
STAMP := .venv/.installed
UV_VERSION := 0.13.9

# The first of these that is new enough and can make a virtual environment is used.
PYTHON ?= python3 python3.13 python3.12 python3.11 python3.14 python
IS_PYTHON_USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

# Test files that run side by side; they wait for servers and processes as much as they compute. Each takes up to 3 GB.
TEST_WORKERS ?= 3

# More words for pytest, as in: make test PYTEST_FLAGS="-k splits"
PYTEST_FLAGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-16s %s\n", $$1, $$2}'

install: $(STAMP) ## .venv with everything pinned, and the petpark command in it

demo: $(STAMP) ## the whole graph on a small drawn lake, in .petpark-demo/
	@$(BIN)/petpark demo

test: $(STAMP) ## the tests that need only pip, but those of minutes (`make prove`); others skip and name what they miss
	@$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

prove: $(STAMP) ## the proofs that take minutes each: whole processes killed while they work, and the production profile
	@$(BIN)/python -m pytest --long -m "long or production" $(PYTEST_FLAGS)

prove-production: $(STAMP) ## of these, the production profile with all its servers: builds, digests, secrets, stops
	@$(BIN)/python -m pytest --long -m production --debian $(PYTEST_FLAGS)

check: $(STAMP) ## lint, format, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

dev: $(STAMP) ## the Dagster UI with its daemon
	@$(BIN)/petpark dev

production: $(STAMP) ## the production profile on this machine, on loopback: PostgreSQL, S3, MLflow, two Ray nodes, Dagster, the login proxy
	@$(BIN)/python -m infra.production

bench: $(STAMP) ## the measured claims, on PETPARK_PHOTOS: ingestion, builds in production, grouping, arrivals, faults, crashes, memory, inference, audit, backups, the demo, the speed of training, the recipe laptop; hours
	@$(BIN)/python -m petpark_assets_tests.benchmarks.ingestion
	@$(BIN)/python -m petpark_assets_tests.benchmarks.ingestion_on_s3
	@$(BIN)/python -m petpark_assets_tests.benchmarks.build_on_s3
	@$(BIN)/python -m petpark_assets_tests.benchmarks.grouping
	@$(BIN)/python -m petpark_assets_tests.benchmarks.arrivals
	@$(BIN)/python -m petpark_assets_tests.benchmarks.arrivals_by_queue
	@$(BIN)/python -m petpark_assets_tests.benchmarks.faults
	@$(BIN)/python -m petpark_assets_tests.benchmarks.crashes 50
	@$(BIN)/python -m petpark_assets_tests.benchmarks.memory
	@$(BIN)/python -m petpark_assets_tests.benchmarks.inference
	@$(BIN)/python -m petpark_assets_tests.benchmarks.audit
	@$(BIN)/python -m petpark_assets_tests.benchmarks.backups
	@$(BIN)/python -m petpark_assets_tests.benchmarks.demo
	@$(BIN)/python -m petpark_assets_tests.benchmarks.training_speed_cpu
	@$(BIN)/python -m petpark_assets_tests.benchmarks.laptop

bench-gpu: $(STAMP) ## the recipe gpu on one GPU, on PETPARK_PHOTOS: accuracy of 5 seeds, seconds to 0.97, photos a second
	@$(BIN)/python -m petpark_assets_tests.benchmarks.gpu_training --commit "$$(git rev-parse HEAD)" \
	  --photos "$${PETPARK_PHOTOS:?set it to a folder of real photos}"

audit: $(STAMP) ## the pinned packages against databases of known holes; fails saying "not audited" where none can be believed
	@$(BIN)/python -m petpark_assets_tests.security.dependency_audit

sbom: $(STAMP) ## what is installed, with licences, in CycloneDX: build/sbom.cdx.json
	@$(BIN)/python -m petpark_assets_tests.security.bill_of_materials build/sbom.cdx.json

lock: $(STAMP) ## compile requirements.txt again from pyproject.toml, and infra/uv.txt from UV_VERSION
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.txt
	@echo uv==$(UV_VERSION) | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet --output-file infra/uv.txt

picture: $(STAMP) ## draw docs/asset_graph.png again (needs Debian's chromium)
	@$(BIN)/python -m pytest petpark_assets_tests/test_ui.py --debian --picture docs/asset_graph.png

# Hashes make the install exact. The project itself is installed last, in place, by the build backend pinned
# among the rest: --no-build-isolation, or pip would fetch another one.
$(STAMP): requirements.txt pyproject.toml infra/uv.txt
	@test -x $(BIN)/python || { \
	  for python in $(PYTHON); do \
	    $$python -c '$(IS_PYTHON_USABLE)' 2>/dev/null && exec $$python -m venv .venv; \
	  done; \
	  echo "petpark needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing the pinned packages into .venv (about a minute and 7 GB the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement infra/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
