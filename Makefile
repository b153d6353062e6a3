# `make demo` and `make test` need nothing but make and a shell: they set the machine up first.

SHELL := /bin/bash
BIN := .venv/bin
TORCH_VERSION := 2.13.0
export PYTHON

.PHONY: demo test lint format bench docs constraints setup clean help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup:  ## system packages, .venv, the package (re-run: instant)
	@tools/setup_machine.sh

demo: setup  ## simulate a run, find its peaks, show them in napari (no screen: a picture)
	@$(BIN)/napari-xtal demo --folder demo-output --overwrite

test: lint  ## lint, type check, architecture check, all tests
	@tools/with_display.sh $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: setup  ## ruff, mypy, import-linter, npe2
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/npe2 validate src/napari_xtal/napari.yaml

format: setup  ## let ruff repair what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:  ## speed and quality against the peers (extra "bench")
	@tools/setup_machine.sh bench
	@$(BIN)/python -m benchmarks all

docs:  ## build the documentation into site/ (extra "docs")
	@tools/setup_machine.sh docs
	@$(BIN)/python docs/make_parameters.py
	@$(BIN)/mkdocs build --strict

# A fresh environment with every extra, so that nothing that happens to lie in .venv gets in.
# Local version labels (+cpu) are cut: they name a build, not a version.
constraints:  ## resolve all dependencies anew and pin them in constraints.txt
	@tools/setup_machine.sh
	@rm -rf build/constraints && $(BIN)/python -m venv build/constraints
	@build/constraints/bin/python -m pip install --quiet 'torch==$(TORCH_VERSION)' \
	    -e '.[all,test,bench,docs,dev]'
	@{ echo '# Every version that napari-xtal is tested with; written by `make constraints`.'; \
	   build/constraints/bin/python -m pip freeze --exclude-editable \
	   | grep -v -i -E '^(napari-xtal|nvidia-|triton)' | grep '==' | sed -E 's/\+[a-z0-9.]+$$//' \
	   | LC_ALL=C sort -f; } > build/constraints.new
	@mv build/constraints.new constraints.txt && rm -rf build/constraints
	@echo "constraints.txt: $$(grep -c == constraints.txt) versions pinned"

clean:  ## remove everything that was built (.venv too)
	rm -rf .venv build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .import_linter_cache .benchmarks .coverage src/napari_xtal/_version.py
	find src tests -name __pycache__ -prune -exec rm -rf {} +
