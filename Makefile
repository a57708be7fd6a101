# Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
# On Linux the default index serves torch with CUDA (several GB). A CPU build of the same version is smaller:
#   make quickstart TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

# Once installed, nothing here needs a network.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help install quickstart test docs tables fuzz nightly matrix lint format clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed  ## Set up .venv

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): minutes, and 3 GB with the tools for development (more with CUDA)"
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $@

quickstart: install  ## Train, evaluate and use both models, small in under 6 minutes
	$(BIN)/hf-fusion quickstart

test: install lint  ## Lint, then run the test suite
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

docs: install  ## Build the documents into build/site, strictly
	$(BIN)/python scripts/generate_docs.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

tables: install  ## Write the tables of README.md and docs/ from model_cards/results
	$(BIN)/python scripts/generate_docs.py

nightly: fuzz matrix  ## That, and the whole test suite with what takes long: trainings killed ten times each, all faults
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --nightly

# Each version has a small environment over .venv, with the older packages that it asks for; .venv itself has the newest.
MATRIX ?= 5.5.0 5.13.0
MATRIX_TESTS ?= tests/models tests/hub/test_compatibility.py

matrix: $(MATRIX:%=matrix-%)  ## Test models and saved checkpoints under older versions of transformers

matrix-%: install
	test -x .venv-$*/bin/python || $(BIN)/python -m venv --without-pip .venv-$*
	$(BIN)/python .ci/overlay.py .venv-$*
	.venv-$*/bin/python -m pip install --quiet "transformers==$*"
	.venv-$*/bin/python -m pytest -p no:cacheprovider $(MATRIX_TESTS)

# A failure is found again by the same seed; other seeds are other cases. The limit makes a memory bomb an error.
SEED ?= 0
fuzz: install  ## Feed over 10,000 hostile inputs to everything that reads (SEED=0); some 20 minutes
	ulimit -v 12582912; $(BIN)/python -m pytest -n 2 tests/fuzz tests/data/test_pickles.py \
		--hypothesis-profile=fuzz --hypothesis-seed=$(SEED) -o faulthandler_timeout=300

lint: install  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

format: install  ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove .venv and caches
	rm -rf $(VENV) .venv-* .pytest_cache .ruff_cache .mypy_cache .hypothesis build
