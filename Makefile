# `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup system demo serve test check soak bench screenshots clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# Debian's packages that tests use. Installed where that is possible; what is missing is
# said loudly, and is an error in CI.
system:
	@sh tools/system-packages.sh

demo: setup
	$(BIN)/tsuzuku -w demo demo

# Dashboard and API of the demo's workspace at http://127.0.0.1:8000/.
serve: setup
	$(BIN)/tsuzuku init demo
	$(BIN)/tsuzuku -w demo serve

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: setup system check
	$(BIN)/pytest -m "not soak" -n 2 --dist loadfile --no-loadscope-reorder --durations 60

soak: setup system
	$(BIN)/pytest -m soak --timeout 7200

bench: setup
	$(BIN)/python benchmarks

# The pictures in docs/images, of a workspace with a training in it: `make screenshots WORKSPACE=...`.
screenshots: setup system
	TSUZUKU_SCREENSHOTS_OF=$(or $(WORKSPACE),demo) $(BIN)/pytest tests/dashboard/test_screenshots.py

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
