# Everything starts here: `make demo` shows what the project does, `make test` proves it.
PYTHON ?= python3
PIP := .venv/bin/pip --disable-pip-version-check
STAMP := .venv/.installed
DEMO := .venv/bin/python -m jobs.demo $(if $(DATA),--data $(DATA) --output runs/demo-data)

# Much of a test is waiting for Ray and S3.
AT_ONCE := -n 2 --dist worksteal

.PHONY: env demo test test-all lint format clean

env: $(STAMP)

# torch first and by its exact version: left to the resolver, a build of several gigabytes may come instead.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make env PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: env
	$(DEMO)

# Bytecode is kept, whatever the caller has set: else each of hundreds of processes compiles the project anew.
test test-all: export PYTHONDONTWRITEBYTECODE :=

test: env
	.venv/bin/python -m pytest -m "not long" --hypothesis-profile=default-run --durations=40 $(AT_ONCE)

test-all: env
	.venv/bin/python -m pytest

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: env
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
