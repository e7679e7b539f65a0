# Two commands do all set-up on a fresh machine with Python 3.11 or newer and venv:
#   make run    installs into .venv and launches the embedded Realm
#   make test   installs with the development tools and runs every check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

GUEST ?= .guest

.PHONY: run test lint unit linux bench payloads payloads-check clean

run: $(VENV)/.installed
	$(BIN)/realmkit run

test: $(VENV)/.installed-dev lint unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests benchmarks tools examples/python
	$(BIN)/ruff check src tests benchmarks tools examples/python
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.installed-dev
	$(BIN)/pytest -q -n auto

# Boots an unmodified Debian kernel as a Realm, with attestation, and as a plain VM (needs apt, or files in $(GUEST)).
linux: $(VENV)/.installed-dev
	$(BIN)/python tools/fetch-guest $(GUEST)
	REALMKIT_GUEST=$(abspath $(GUEST)) $(BIN)/pytest -q -s tests/linux

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

# Rebuild what is prebuilt (needs gcc-aarch64-linux-gnu); the check compares bytes with what is committed.
payloads: $(VENV)/.installed
	$(BIN)/python tools/build_payloads.py

payloads-check: $(VENV)/.installed
	$(BIN)/python tools/build_payloads.py --check

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -e .[dev]
	touch $@

clean:
	rm -rf $(VENV) $(GUEST) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
