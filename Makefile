# The front door. Each target makes the virtual environment it needs; PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow test-heavy check bench docs clean

demo: $(STAMP)
	$(BIN)/modelyard demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not heavy" --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not heavy"

test-heavy: $(STAMP)
	$(BIN)/python -m pytest -m heavy

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks docs/generate.py
	$(BIN)/ruff check src tests benchmarks docs/generate.py
	$(BIN)/lint-imports
	$(BIN)/pyright

bench-%: $(STAMP)
	$(BIN)/python benchmarks/bench_$*.py $(BENCH)

bench: $(STAMP)
	@for bench in benchmarks/bench_*.py; do $(BIN)/python $$bench || exit 1; done

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[docs]'
	$(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modelyard needs Python 3.11 or later; found " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache
