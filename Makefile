# `make` alone says what there is. A target first builds the environment it needs, if that is missing or stale.

PYTHON ?= python3
VENV ?= .venv
# ib_insync and ib_async overwrite each other's top-level package `eventkit`: an environment for each.
SECOND := $(VENV)-ib-async
# The libraries that `bench` compares with bring hundreds of megabytes of their own.
RIVALS := $(VENV)-rivals
# Where an environment has its programs.
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)

ifneq (,$(filter demo quick test soak any-day lint format bench site dist sbom lock,$(MAKECMDGOALS)))
# A Python that was named is taken or refused; for a `python3` that does not fit, the first that does stands in.
STAND_INS := $(if $(filter file,$(origin PYTHON)),python3.13 python3.12 python3.11)
# An environment belongs to one Python and one folder (its scripts hold the path): the KEY, such as 3.13-2774631.
# The Python of an activated .venv stands for the one it was made from, for it cannot rebuild itself.
ASK := import os, sys, zlib; (3, 11) <= sys.version_info < (3, 14) or sys.exit(1); \
	print("%d.%d-%d" % (*sys.version_info[:2], zlib.crc32(os.getcwdb())), sys._base_executable)
FOUND := $(shell for python in "$(PYTHON)" $(STAND_INS); do "$$python" -c '$(ASK)' 2>/dev/null && break; done)
KEY := $(firstword $(FOUND))
BASE := $(wordlist 2,$(words $(FOUND)),$(FOUND))
ifeq (,$(KEY))
$(error This needs Python 3.11, 3.12 or 3.13, and `$(PYTHON)` is none of them; name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS))
endif
endif

READY := $(VENV)/ready-$(KEY)
SECOND_READY := $(SECOND)/ready-$(KEY)
BEGAN := $(shell date +%s)
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo quick test soak any-day windows lint format bench site dist sbom lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1 - \2/p' Makefile

demo: $(READY)  ## run the demo: from bars to a report, without an account
	@$(VENV)/$(BIN)/backtest demo

CHECK := .ci/check --began $(BEGAN) --main $(VENV) --second $(SECOND)

quick: $(READY)  ## the inner loop: lint and every fast test
	@$(VENV)/$(BIN)/python $(CHECK) quick

test: $(READY) $(SECOND_READY)  ## every check that CI runs: lint and the tests, including pages and notebooks
	@$(VENV)/$(BIN)/python $(CHECK) test

soak: $(READY) $(SECOND_READY)  ## list the parts of the long tests; PART=NAME runs one, PART=all runs all of them
	@$(VENV)/$(BIN)/python tests/soak/parts.py $(PART)

any-day: $(READY)  ## the part of soak that runs fast tests, pages and notebooks on other dates, in other time zones and languages
	@$(VENV)/$(BIN)/python tests/soak/parts.py any-day

# A real Windows CPython under Wine; its 1 GB stays in WINDOWS. Needs root and Debian's packages.
WINDOWS ?= /tmp/windows
windows:  ## set up CPython for Windows under Wine, and run with it the tests that do not need Linux
	bash tests/windows/setup.sh . $(WINDOWS)
	bash tests/windows/run.sh . $(WINDOWS)

PAGES := $(filter-out %/public-strategies.md,$(wildcard *.md docs/*.md docs/how-to/*.md backtest/*.md data/*.md strategies/*.md .github/*.md))

lint: $(READY)  ## check style, format, types, spelling, prose and the order of imports, without changing files
	$(VENV)/$(BIN)/ruff check .
	$(VENV)/$(BIN)/ruff format --check .
	$(VENV)/$(BIN)/codespell
	$(VENV)/$(BIN)/proselint check --config .ci/proselint.json $(PAGES)
	$(VENV)/$(BIN)/mypy
	$(VENV)/$(BIN)/mypy --config-file .ci/mypy-systems.toml --platform win32 --cache-dir .mypy_cache/win32
	$(VENV)/$(BIN)/mypy --config-file .ci/mypy-systems.toml --platform darwin --cache-dir .mypy_cache/darwin
	$(VENV)/$(BIN)/lint-imports --no-logo --no-cache

format: $(READY)  ## apply automatic fixes and format the code
	$(VENV)/$(BIN)/ruff check --fix .
	$(VENV)/$(BIN)/ruff format .

bench: $(READY) $(RIVALS)/pins-$(KEY)  ## compare speed and memory with stock Backtrader and others; takes a quarter of an hour
	$(VENV)/$(BIN)/python tests/benchmarks/bench.py --rivals $(RIVALS)/$(BIN)/python --out build/bench.md

site: $(READY)  ## build the documentation as a site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/$(BIN)/mkdocs build -q

HASHES := import hashlib, pathlib; \
	[print(hashlib.sha256(path.read_bytes()).hexdigest(), path) for path in sorted(pathlib.Path("dist").iterdir())]

dist: $(READY)  ## build the wheel and the source archive in dist/ and print their SHA-256, the same from any clone
	rm -rf dist
	$(VENV)/$(BIN)/hatchling build -d dist >/dev/null
	@$(VENV)/$(BIN)/python -c '$(HASHES)'

sbom: $(READY)  ## list the dependencies of an installation, with licences and hashes, as CycloneDX in build/sbom.json
	@$(VENV)/$(BIN)/python .ci/sbom build/sbom.json

lock:  ## pin the versions that pyproject.toml allows; pins that are still allowed stay
	test -x $(VENV)/$(BIN)/python || "$(BASE)" -m venv $(VENV)
	$(VENV)/$(PIP_INSTALL) uv
	$(VENV)/$(BIN)/python .ci/lock

clean:  ## remove environments, caches and builds; stored bars and runs stay
	rm -rf $(VENV) $(SECOND) $(RIVALS) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Each environment has two steps, so that a change of pyproject.toml alone costs seconds.
$(VENV)/pins-$(KEY): .ci/constraints.txt
$(SECOND)/pins-$(KEY): .ci/constraints-ib-async.txt
$(RIVALS)/pins-$(KEY): .ci/constraints-rivals.txt
$(VENV)/pins-$(KEY) $(SECOND)/pins-$(KEY) $(RIVALS)/pins-$(KEY):
	@echo "Building $(@D) for Python $(firstword $(subst -, ,$(KEY))), which takes a minute or two ..." >&2
	@"$(BASE)" -m venv --clear $(@D)
	@# setuptools first: it builds the few that come as source only, and so is pinned like all else.
	@sed -n '/^setuptools==/,/[^\\]$$/p' $< > $(@D)/setuptools.txt
	@$(@D)/$(PIP_INSTALL) --require-hashes -r $(@D)/setuptools.txt
	@$(@D)/$(PIP_INSTALL) --require-hashes --no-build-isolation --use-pep517 -r $<
	@touch $@

%/ready-$(KEY): %/pins-$(KEY) pyproject.toml
	@$*/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
