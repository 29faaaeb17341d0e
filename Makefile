# Two commands for users: `make demo` and `make test`. Each sets up .venv first, once.
#   make demo      the three steps end to end on a CPU
#   make test      the test suite
#   make check     formatter, linter, types, import rules, house rules
#   make results   the tables and figures of the README
#   make clean     remove caches and outputs (keeps .venv)
# Needs Python 3.10 or newer: `make PYTHON=python3.12 test` chooses one for a new .venv.

PYTHON ?= python3
BIN = .venv/bin
STAMP = .venv/.installed

.PHONY: demo test check results clean

demo: $(STAMP)
	@$(BIN)/python scripts/demo.py

test: $(STAMP)
	@$(BIN)/python -m pytest -q

check: $(STAMP)
	@echo "check: format"; $(BIN)/ruff format --check --quiet .
	@echo "check: lint"; $(BIN)/ruff check --quiet .
	@echo "check: types"; $(BIN)/mypy --no-error-summary imgdiff scripts
	@echo "check: import rules"; PYTHONPATH=. $(BIN)/lint-imports --no-cache > .venv/import-rules.txt || { cat .venv/import-rules.txt; exit 1; }
	@echo "check: house rules"; $(BIN)/python -m pytest -q tests/test_house.py

results: $(STAMP)
	@$(BIN)/python scripts/results.py

# Written last, so that an interrupted set-up is done again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "imgdiff needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || { echo "set-up: making .venv"; $(PYTHON) -m venv .venv; }
	@echo "set-up: installing imgdiff and its dependencies into .venv (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

clean:
	@rm -rf build dist outputs multirun .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@find imgdiff scripts tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: caches, outputs and builds removed; .venv kept"
