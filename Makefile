# `make` lists the commands. On a fresh machine `make run` and `make test` need Python 3.11+, make and git, nothing else.

COMPOSE ?= docker compose
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
SEEDS ?= 2# rounds of chaos for each thing that can break
BIN := .venv/bin

# What a caller's shell may have exported for another project, and would bend this one.
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDONTWRITEBYTECODE MYPYPATH VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_PREFIX PIP_USER

.NOTPARALLEL: # the order of prerequisites is the order of work, under -j too
.PHONY: help run migrate check demo catalogue test unit-tests integration-tests e2e-tests static-checks lint typecheck format black \
	chaos mutants partitions test-pairs test-laws bench bench-quick docs pictures build up down logs all clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- the service on embedded servers; its data is kept in var/ ---------------

run: .venv/ready-to-run ## start everything and print the addresses, until Ctrl-C
	@exec $(BIN)/allocation run

migrate: .venv/ready-to-run ## bring the database schema up to date
	@exec $(BIN)/allocation migrate

check: .venv/ready-to-run ## prove that the data is consistent
	@exec $(BIN)/allocation check

catalogue: .venv/ready-to-test ## write docs/events.md and the schemas of messages anew, from the code
	@$(BIN)/python -m tests.catalogue

demo: .venv/ready-to-run ## play a small trading day, against what `make run` has started
	@exec $(BIN)/allocation demo

# --- tests -------------------------------------------------------------------

# Both sides of the pipe run at once and hear Ctrl-C; what goes through it is how the integration tests ended.
test: .venv/ready-to-test ## every check and every test, in two rows side by side; the last lines say what failed
	@mkdir -p build; log=build/integration-tests.log; make="$(MAKE) --no-print-directory"; \
	{ $$make integration-tests >$$log 2>&1 </dev/null; echo $$?; } | { \
		failed=; \
		for layer in static-checks unit-tests e2e-tests; do \
			$$make $$layer </dev/null || { failed=" $$layer"; break; }; \
		done; \
		echo "The integration tests have run beside these:"; \
		read -r status; \
		cat $$log; \
		[ "$$status" = 0 ] || failed="$$failed integration-tests"; \
		[ -z "$$failed" ] || { echo "Failed:$$failed"; exit 1; }; \
		echo "Passed: static-checks unit-tests integration-tests e2e-tests"; \
	}

unit-tests: .venv/ready-to-test ## the rules and the machinery, without any server
	@$(BIN)/python -m pytest tests/unit

integration-tests: .venv/ready-to-test ## against a real PostgreSQL and a real Redis-compatible server
	@$(BIN)/python -m pytest --numprocesses 3 tests/integration

partitions: .venv/ready-to-test ## the integration tests once more, on tables that are cut into hash partitions
	@TESTS_PARTITIONS=8 $(BIN)/python -m pytest --numprocesses 2 tests/integration

test-pairs: .venv/ready-to-test ## every two commands at the same moment: all is as if one had come after the other
	@TESTS_ALL_PAIRS=1 $(BIN)/python -m pytest --numprocesses 2 tests/integration/test_pairs.py

test-laws: .venv/ready-to-test ## every law once more, with eighty times as many examples; that takes its time
	@HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest --numprocesses 2 --timeout 3600 tests/unit tests/integration/test_openapi.py tests/integration/test_damaged_rows.py

e2e-tests: .venv/ready-to-test ## real processes, over HTTP and Redis
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/e2e

chaos: .venv/ready-to-test ## break all that can break, again and again, and judge what is left; a quarter of an hour for each seed
	@$(BIN)/python -m tests.chaos --seeds $(SEEDS) --report docs/chaos.md

mutants: .venv/ready-to-test ## break the code in hundreds of ways, and see which the tests notice; half an hour
	@[ -x .venv/mutants/bin/mutmut ] || { $(BIN)/python -m venv .venv/mutants && \
		.venv/mutants/bin/python -m pip install --quiet --editable '.[embedded,dev,mutants]'; }
	@.venv/mutants/bin/mutmut run
	@.venv/mutants/bin/mutmut results
	@$(BIN)/python -m tests.mutants

# RETAIL_DATA may name a folder with a real year of order lines; else the import is of a made-up one.
bench: .venv/ready-to-bench ## measure speed, memory and growth, beside their goals, and write docs/performance.md; ten minutes
	@$(BIN)/python -m benchmarks --write

bench-quick: .venv/ready-to-bench ## the same in two minutes, with smaller numbers, and only printed
	@$(BIN)/python -m benchmarks --quick

static-checks: lint typecheck ## all that can be said about the code without running it

lint: .venv/ready-to-test ## style, formatting and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo

typecheck: .venv/ready-to-test ## mypy, strict
	@$(BIN)/mypy

format: .venv/ready-to-test ## put the code in its standard form
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

black: format ## the book's name for `format`

# --- docs ---------------------------------------------------------------------

docs: .venv/ready-to-test ## build the site of the docs into build/site; open build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

pictures: .venv/ready-to-test ## take the pictures of the console that are in the docs
	@$(BIN)/python -m tests.e2e.pictures

# --- the same service on Docker, by the book's names -------------------------

build: ## build the image
	$(COMPOSE) build

up: ## start everything in containers, in the background
	$(COMPOSE) up --detach

down: ## stop and remove the containers; the data stays
	$(COMPOSE) down --remove-orphans

logs: ## the last 100 lines of every container
	$(COMPOSE) logs --tail=100

all: down build up test ## start afresh in containers, then test

# --- installation ------------------------------------------------------------

clean: ## remove what was installed, built or cached, never the data
	rm -rf .venv build dist mutants src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A .venv that is half made, was moved or came with a copied folder does not hold its own path: it is made again.
ifneq ($(shell test -x $(BIN)/python && cat .venv/made-in 2>/dev/null),$(CURDIR))
.PHONY: .venv/made-in
endif

.venv/made-in:
	@found=; \
	for python in $(PYTHONS); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found=$$python; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "Creating .venv with $$($$python --version) ..."; \
		$$python -m venv --clear .venv && pwd -P >$@; \
		exit; \
	done; \
	if [ -n "$$found" ]; then \
		echo "$$found lacks venv: install it (Debian, Ubuntu: apt install $${found##*/}-venv), then try again." >&2; \
	else \
		echo "No Python 3.11 or newer among: $(PYTHONS). Install one, or say where it is: make PYTHON=/path/to/python3" >&2; \
	fi; \
	exit 1

.venv/ready-to-run: extras := embedded
.venv/ready-to-test: extras := embedded,dev
.venv/ready-to-bench: extras := embedded,bench

# uv installs in a fraction of pip's time, but wants a place for its cache. Where it cannot be had or fails, pip does.
.venv/ready-to-run .venv/ready-to-test .venv/ready-to-bench: pyproject.toml .venv/made-in
	@echo "Installing .[$(extras)] ..."
	@pip="$(BIN)/python -m pip --disable-pip-version-check"; \
	[ -w "$$HOME" ] || export UV_CACHE_DIR=.venv/cache; \
	{ $$pip install uv && $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --editable '.[$(extras)]' \
		|| $$pip install --editable '.[$(extras)]'; } >.venv/install.log 2>&1 </dev/null || { \
		tail -n 15 .venv/install.log >&2; \
		echo "Could not install (the whole log: .venv/install.log). Is the package index reachable?" >&2; \
		exit 1; \
	}
	@touch .venv/ready-to-run $@
