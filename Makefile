# `make demo` and `make test` need Python 3.10 or newer and a package registry, nothing else.
# Another Python: make demo PYTHON=python3.12. Another place for the environment: make demo VENV=/somewhere/env.
PYTHON ?= python3
VENV ?= .venv
SAVE ?=
TESTERS ?= 4
BIN := $(abspath $(VENV))/bin
IN_ENV = PATH="$(BIN):$$PATH"
NEEDS := pyproject.toml settings.ini setup.py constraints.txt

# Modules that were compiled once are not compiled again by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long lock bench docs env dev-env clean

demo: env  ## prepare the sample corpus that comes with the package
	$(IN_ENV) audio-ft-prep demo

# The lock's version of a package, as pip wants to hear it.
locked = $(shell grep -oE '^$(1)==[^ ;]+' requirements.lock)

# Many tests wait for servers and workers, so more of them than cores run at once, each file's in one process. What fails
# then is run once more with nothing beside it: a busy machine lets a wait end too soon, a fault fails again.
define pytest
$(IN_ENV) python -m pytest -q -m "$(1)" -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(2) || { test $$? = 1 && $(IN_ENV) python -m pytest -q -m "$(1)" --last-failed --last-failed-no-failures none $(2); }
endef

# Each process reads all files that it is given, so it is given no others.
ALL_LONG = $(shell grep -lE '^pytestmark = .*mark\.long' tests/test_*.py)
SOME_LONG = $(shell grep -lE 'mark\.long|browser' tests/test_*.py)

# With SAVE=--save the notebooks keep today's outputs, as a commit needs them.
test: dev-env  ## every lesson of every notebook, then the tests that take seconds each
	$(IN_ENV) nbdev-test $(SAVE)
	$(if $(SAVE),$(IN_ENV) nbdev-clean)
	$(if $(SAVE),$(IN_ENV) python tools/same_outputs.py)
	$(call pytest,not long,tests $(ALL_LONG:%=--ignore=%))

test-long: dev-env  ## runs killed at any moment, Ray's clusters, the platform's SDK, tours with a browser, attacks, the benchmarks' smoke runs
	$(call pytest,long,$(SOME_LONG))

lock: dev-env  ## requirements.lock anew, after a change of settings.ini or constraints.txt
	$(IN_ENV) python tools/lock.py

bench: dev-env  ## ours beside the reference recipe, and beside the floor
	$(IN_ENV) python bench/vs_reference.py
	$(IN_ENV) python bench/floor.py

docs: dev-env  ## the docs site in _site/ and README.md; fails on a broken link
	$(IN_ENV) python tools/docs_site.py _site
	$(IN_ENV) python tools/anchors.py _site

env: $(VENV)/installed
dev-env: $(VENV)/installed-dev

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit("audio_ft_prep needs Python 3.10 or newer, $(PYTHON) is %s: name another with make PYTHON=..." % v if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(NEEDS) | $(BIN)/pip
	$(BIN)/pip install -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: requirements.lock $(NEEDS) | $(BIN)/pip
	$(BIN)/pip install -q $(call locked,torch)
	$(BIN)/pip install -q --no-deps $(call locked,uv)
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r requirements.lock || $(BIN)/pip install -q --no-deps -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $(VENV)/installed $@

clean:  ## what these commands made, the environment too; prepared data sets stay
	rm -rf $(VENV) _site _docs _proc _proc_site build dist *.egg-info .pytest_cache .hypothesis
