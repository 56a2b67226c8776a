# make run    install what is missing, then open napari with SemiGDA and the sample (without a display: scripts/demo.py)
# make day    a working day by itself, with a project, corrections, a batch and an export; DATA=folder for other images
# make test   install what is missing, then every check and test
# make torture  break things on purpose, half an hour at most, and write what came of it into docs/reliability.md
# make install / lint / demo / screenshots / sample / clean
#
# PYTHON=python3.12  another interpreter        SYSTEM=no  leave the system's packages alone
# ARGS="-k worker"   more for pytest (then in one process)      PIP="..."  more for pip

.DEFAULT_GOAL := help
.PHONY: help run demo day screenshots torture test test-docks test-rest lint install sample system-qt system-xvfb clean
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SYSTEM ?= yes

# Always a virtual screen of known size: a test must not depend on, nor type into, somebody's desktop.
XVFB := env -u WAYLAND_DISPLAY xvfb-run -a -s "-screen 0 1400x900x24 -nolisten tcp"
THREADS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2}

help:
	@sed -n 's/^# \?//;1,/^$$/p' Makefile

run: $(if $(DISPLAY)$(WAYLAND_DISPLAY),,system-xvfb) install
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then $(BIN)/napari-semigda --sample; else $(MAKE) --no-print-directory demo; fi

# The whole loop by itself; screenshots, masks and a table of Dice go to out/run/.
demo: system-xvfb install
	$(THREADS) $(XVFB) $(BIN)/python scripts/demo.py

# DATA has images/ and masks/, files of the same names in both; left out, a copy of the sample. Results: out/day/.
day: system-xvfb install
	$(THREADS) $(XVFB) $(BIN)/python scripts/day.py $(if $(DATA),--data "$(DATA)") $(ARGS)

# The pictures of docs/images anew.
screenshots:
	$(MAKE) --no-print-directory day ARGS="--screenshots docs/images"

# ARGS="--minutes 5" for a sixth of every count.
torture: system-xvfb install
	$(THREADS) $(XVFB) $(BIN)/python scripts/torture.py $(ARGS)

# Two halves side by side, on one thread and one screen each; the one without docks steps back, so that those stay quick.
test: system-xvfb install lint
ifdef ARGS
	$(THREADS) $(XVFB) $(BIN)/python -m pytest $(ARGS)
else
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target test-docks test-rest
endif

# Those that start processes of their own and wait for them go with the docks, which wait for theirs: so the halves are even.
WAITING := tests/widgets tests/test_cluster.py tests/engine/test_several.py

test-docks:
	OMP_NUM_THREADS=1 $(XVFB) $(BIN)/python -m pytest $(WAITING)

test-rest:
	OMP_NUM_THREADS=1 nice $(XVFB) $(BIN)/python -m pytest $(WAITING:%=--ignore=%)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: system-qt $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/find-python
	@[ -x $(BIN)/pip ] || { python="$$(scripts/find-python $(PYTHON))" && "$$python" -m venv $(VENV); }
	@echo "Installing napari-semigda and what it needs into $(VENV); the first time takes a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP) -e ".[app,test]"
	@touch $@

system-qt:
	@[ "$(SYSTEM)" = no ] || scripts/system-packages $(if $(PYTHON),,python) qt

system-xvfb:
	@[ "$(SYSTEM)" = no ] || scripts/system-packages $(if $(PYTHON),,python) qt xvfb

# Makes napari_semigda/sample anew, in an environment of its own.
sample: install
	[ -x $(VENV)-sample/bin/python ] || $(BIN)/python -m venv $(VENV)-sample
	$(VENV)-sample/bin/python -m pip install --quiet --disable-pip-version-check nilearn tifffile
	$(VENV)-sample/bin/python scripts/make_sample.py

clean:
	rm -rf $(VENV) $(VENV)-sample build dist out .pytest_cache .ruff_cache
