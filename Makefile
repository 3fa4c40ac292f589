# Two commands do everything on a fresh machine: `make demo` and `make test`.
# As root, what Debian packages are missing is installed; otherwise the message says which.

PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-dev
DEMO_ARGS ?=
PYTEST_ARGS ?=

.PHONY: help venv demo test lint types schema clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

venv: $(STAMP) ## .venv with the inspectd command, from pinned packages

$(STAMP): pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) deploy/need-packages venv
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@$(VENV)/bin/python -m inspectd.simcam.build || true
	@touch $@
	@echo "ready: $(VENV)/bin/inspectd --help"

demo: venv ## a rendered product, calibrated and inspected, with broker and reject gate
	$(VENV)/bin/inspectd demo $(DEMO_ARGS)

$(TEST_STAMP): $(STAMP)
	@deploy/need-packages test
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

test: $(TEST_STAMP) lint types ## lint, types, import rules and all tests
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: $(TEST_STAMP) ## ruff and import-linter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: $(TEST_STAMP) ## mypy
	$(VENV)/bin/mypy inspectd calibration

schema: venv ## writes the committed JSON schemas anew
	$(VENV)/bin/python -m inspectd.core.schema

clean: ## removes what was made
	rm -rf $(VENV) build *.egg-info demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
