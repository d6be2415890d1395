# Two commands do all the set-up on a fresh machine:
#   make demo   the main job on built-in synthetic data; ends with a page to open
#   make test   the checks and the tests
# and besides
#   make docs         the documentation as a site: build/docs/index.html
#   make dist-check   wheel and sdist, installed in a clean place, run the quick demo
#   make stress       half an hour of what ends badly: docs/reliability.md
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# where files of tests lie, which are written through to the disk: in memory, if that has room
MEMORY  = $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4e6 {print "/dev/shm"}')

.PHONY: demo test docs dist-check stress clean

demo: $(VENV)/.installed
	$(BIN)/cnnlens demo

# some machines forbid bytecode; every process that a test starts would then compile torch anew
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	TMPDIR="$${TMPDIR:-$(MEMORY)}" $(BIN)/python -m pytest -n 2 --dist worksteal

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'build/docs/index.html; with search: python3 -m http.server -d build/docs'

dist-check: | $(BIN)/python
	$(BIN)/python -m pip install --quiet build
	.ci/dist-check $(BIN)/python

stress: $(VENV)/.installed-test
	$(BIN)/python -m tests.stress --write

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'cnnlens needs Python 3.11 or newer: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python -m pip install --quiet --upgrade pip  # an old one takes long to find what fits

clean:
	rm -rf $(VENV) build *.egg-info
