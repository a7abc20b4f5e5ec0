# make demo      train, export and classify real digits: some minutes the first time (6 GB are installed), then a second
# make test      lint and all tests, in three processes: a quarter of an hour on two cores
# make lint      ruff, mypy, import-linter, the tables of figures, the docs: half a minute
# make docs      build the pages of docs/ into site/, every warning an error: seconds
# make edge      the wheel of cnn-infer alone, in an environment without PyTorch, and its tests: some minutes
# make web       fetch what the pages of cnn-export --web need, into the package; needs npm: half a minute
# make wheels    the wheels of the three packages, into dist/: seconds
# make notebook  run the walk-through on Fashion-MNIST and keep its output: a quarter of an hour
# make clean     remove what these made
#
# Each target can be run again at any time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO := demo
SITE := site
DIST := dist
EDGE := build/edge
WEB := export/web/node_modules export/src/cnn_export/web/assets

.PHONY: demo test lint docs edge web wheels notebook clean check

demo: $(READY)
	$(BIN)/python benchmarks/demo.py $(DEMO)

test: lint
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/tables.py --check

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $(SITE)

# pip gets the file of the wheel: cnn-infer is not published, so pip must not search a registry for it.
edge: wheels
	rm -rf $(EDGE)
	$(PYTHON) -m venv $(EDGE)
	$(EDGE)/bin/python -m pip install --disable-pip-version-check -q "cnn-infer[cpu] @ file://$(abspath $(DIST))/$$(cd $(DIST) && ls cnn_infer-*.whl)" pytest hypothesis
	$(EDGE)/bin/python -m pytest tests/infer

# The versions are those of the lock file; no script of a package runs.
web: | check
	npm ci --prefix export/web --ignore-scripts --no-audit --no-fund --silent
	$(PYTHON) export/web/assemble.py

wheels: | check
	rm -rf $(DIST)
	$(PYTHON) -m pip wheel --disable-pip-version-check -q --no-deps --wheel-dir $(DIST) ./infer ./train ./export

# walkthrough.py is what is edited; the .ipynb takes its cells over and gets their output.
notebook: $(READY)
	$(BIN)/jupytext --to ipynb --update notebooks/walkthrough.py
	$(BIN)/jupyter-execute --inplace notebooks/walkthrough.ipynb

clean:
	rm -rf $(VENV) $(DEMO) $(SITE) $(DIST) $(WEB) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check:
	@command -v $(PYTHON) >/dev/null || { echo "missing: python3 (3.11 or later); on Debian and Ubuntu: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or later ($(PYTHON) is older); pass PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "missing: python3-venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# One command for all three: they are not published, so pip must not search a registry for them.
$(READY): infer/pyproject.toml train/pyproject.toml export/pyproject.toml requirements-dev.txt | check
	@echo "installing PyTorch and the rest into $(VENV): some minutes, about 6 GB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -e 'infer[cpu,report]' -e train -e export -r requirements-dev.txt
	touch $(READY)
