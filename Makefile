# make demo   train, export and run on real pictures, from nothing
# make test   the whole test suite and lint
# make lint   ruff, mypy, import-linter
# make notebook  run the walk-through on Fashion-MNIST and keep its output: a quarter of an hour
# make clean  remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := demo

.PHONY: demo test lint notebook clean check

demo: $(READY)
	$(BIN)/python benchmarks/demo.py $(DEMO)

test: lint
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# walkthrough.py is what is edited; the .ipynb takes its cells over and gets their output.
notebook: $(READY)
	$(BIN)/jupytext --to ipynb --update notebooks/walkthrough.py
	$(BIN)/jupyter-execute --inplace notebooks/walkthrough.ipynb

clean:
	rm -rf $(VENV) $(DEMO) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check:
	@command -v $(PYTHON) >/dev/null || { echo "missing: python3 (3.11 or later); on Debian and Ubuntu: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or later ($(PYTHON) is older); pass PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "missing: python3-venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# One command for all three: they are not published, so none may be looked for in a registry.
$(READY): infer/pyproject.toml train/pyproject.toml export/pyproject.toml requirements-dev.txt | check
	@echo "installing PyTorch and the rest into $(VENV): some minutes, about 6 GB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -e 'infer[cpu]' -e train -e export -r requirements-dev.txt
	touch $(READY)
