# make demo: explore the Pong story on every server.   make test: the test suite.
# Both set themselves up in .venv, with nothing but Python ≥ 3.10 and the package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

.PHONY: demo test slow bench lint notebooks clean

demo: $(VENV)/.demo
	@$(BIN)/asgi-sim check unsolicited_pong --graph .sim/unsolicited_pong.png || test $$? -eq 1

test: $(VENV)/.test
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow" $(PYTEST)

slow: $(VENV)/.test
	@$(BIN)/python -m pytest --numprocesses 2 -m slow $(PYTEST)

bench: $(VENV)/.test
	@$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-disable-gc -q $(PYTEST)

lint: $(VENV)/.lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

notebooks: $(VENV)/.test
	@$(BIN)/python -m jupyter execute --inplace notebooks/*.ipynb

clean:
	@rm -rf $(VENV) .sim .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("asgi-sim needs Python 3.10 or newer; %s is %s. Try: make PYTHON=python3.12" % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 10) else 0)'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: pyproject.toml | $(VENV)/bin/python
	@$(PIP) --editable '.[test,lint]'
	@touch $@ $(VENV)/.test $(VENV)/.demo
