# The book's commands. They need Python >= 3.11 and make; everything else goes into .venv, from pyproject.toml and constraints.txt.
#   make book PROFILE=smoke DEVICE=cpu      PYTHON=python3.12 make test

PYTHON   ?= python3
VENV     ?= .venv
PROFILE  ?= laptop
DEVICE   ?= auto
CHAPTERS ?=
JOBS     ?= 2

PY    := $(VENV)/bin/python
LOP   := $(VENV)/bin/lop
STAMP := $(VENV)/.installed
NOTEBOOKS := $(wildcard book/*.ipynb)
say    = @printf '\n==> %s\n' "$(1)"

.DEFAULT_GOAL := help
.PHONY: help env book smoke test test-slow lint format check doctor clean distclean

help:  ## this list
	@printf 'usage: make TARGET [PROFILE=smoke|laptop|paper] [DEVICE=auto|cpu|cuda|mps] [CHAPTERS="05_cloning"] [PYTHON=python3]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environment is (re)installed when it is absent or older than the files that define it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  printf 'error: %s is not Python 3.11 or newer; name one that is, as in: make PYTHON=python3.12 ...\n' '$(PYTHON)' >&2; exit 2; }
	$(call say,environment: creating $(VENV) with $$($(PYTHON) --version 2>&1))
	@$(PYTHON) -m venv $(VENV) || { printf 'error: could not create %s; on Debian and Ubuntu: apt install python3-venv\n' '$(VENV)' >&2; exit 2; }
	$(call say,environment: installing the pinned packages; the first time downloads PyTorch and takes minutes)
	@$(PY) -m pip install --disable-pip-version-check --progress-bar on -e '.[dev]' -c constraints.txt
	@touch $(STAMP)

env: $(STAMP)  ## create or update .venv only
	$(call say,environment: $(VENV) is up to date)

book: $(STAMP)  ## run every chapter, judge the claims, build the site
	$(call say,1/2 running the chapters (profile $(PROFILE) - device $(DEVICE)); finished ones are reused)
	@$(LOP) run $(CHAPTERS) --profile $(PROFILE) --device $(DEVICE)
	$(call say,2/2 building the site)
	@$(LOP) build --profile $(PROFILE)
	$(call say,the book is ready: open $(CURDIR)/_site/index.html)

smoke:  ## the same in some minutes, at the smallest size; nothing is judged
	@$(MAKE) --no-print-directory book PROFILE=smoke

test: $(STAMP)  ## the test suite without its slow part
	$(call say,tests: $(JOBS) processes)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS)

test-slow: $(STAMP)  ## the slow tests: whole notebooks, site builds, the browser
	$(call say,slow tests)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile -m 'slow and parallel and not gpu'
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m 'slow and not parallel and not gpu' --durations=30 --durations-min=5

lint: $(STAMP)  ## style of the code; notebooks without outputs
	$(call say,ruff and nbstripout)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(if $(NOTEBOOKS),$(PY) -m nbstripout --verify --keep-id $(NOTEBOOKS))

format: $(STAMP)  ## repair what lint complains about
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
	@$(if $(NOTEBOOKS),$(PY) -m nbstripout --keep-id $(NOTEBOOKS))

check: $(STAMP)  ## check the built book: claims, notebooks, site
	@$(LOP) check --profile $(PROFILE)

doctor: $(STAMP)  ## what this machine has and lacks
	@$(LOP) doctor

clean:  ## remove the site and the build folder; results stay
	rm -rf _build _site _ci

distclean: clean  ## also remove the results and the environment
	rm -rf _results $(VENV)
