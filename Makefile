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

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1 - \2/p' Makefile

demo: $(READY)  ## from bars to a report, without an account
	@$(VENV)/$(BIN)/backtest demo

CHECK := .ci/check --began $(BEGAN) --main $(VENV) --second $(SECOND)

quick: $(READY)  ## the inner loop: lint, and all tests that are fast
	@$(VENV)/$(BIN)/python $(CHECK) quick

test: $(READY) $(SECOND_READY)  ## all that CI checks: lint, the tests, pages and notebooks among them; says what it ran
	@$(VENV)/$(BIN)/python $(CHECK) test

soak: $(READY) $(SECOND_READY)  ## the parts of the long tests; PART=NAME runs one, PART=all all of them
	@$(VENV)/$(BIN)/python tests/soak/parts.py $(PART)

any-day: $(READY)  ## what a user meets, on other days, in other zones and languages: a part of soak
	@$(VENV)/$(BIN)/python tests/soak/parts.py any-day

# A real Windows CPython under Wine; its 1 GB stays in WINDOWS. Needs root and Debian's packages.
WINDOWS ?= /tmp/windows
windows:  ## what the tests that need no Linux say of a real Windows CPython under Wine, which it sets up first
	bash tests/windows/setup.sh . $(WINDOWS)
	bash tests/windows/run.sh . $(WINDOWS)

PAGES := $(filter-out %/public-strategies.md,$(wildcard *.md docs/*.md docs/how-to/*.md backtest/*.md data/*.md strategies/*.md .github/*.md))

lint: $(READY)  ## style, format, types, spelling, prose and the order of imports, changing nothing
	$(VENV)/$(BIN)/ruff check .
	$(VENV)/$(BIN)/ruff format --check .
	$(VENV)/$(BIN)/codespell
	$(VENV)/$(BIN)/proselint check --config .ci/proselint.json $(PAGES)
	$(VENV)/$(BIN)/mypy
	$(VENV)/$(BIN)/mypy --config-file .ci/mypy-systems.toml --platform win32 --cache-dir .mypy_cache/win32
	$(VENV)/$(BIN)/mypy --config-file .ci/mypy-systems.toml --platform darwin --cache-dir .mypy_cache/darwin
	$(VENV)/$(BIN)/lint-imports --no-logo --no-cache

format: $(READY)  ## put right what can be put right without thinking
	$(VENV)/$(BIN)/ruff check --fix .
	$(VENV)/$(BIN)/ruff format .

bench: $(READY) $(RIVALS)/pins-$(KEY)  ## speed and memory against stock Backtrader and others, as a table: a quarter of an hour
	$(VENV)/$(BIN)/python tests/benchmarks/bench.py --rivals $(RIVALS)/$(BIN)/python --out build/bench.md

site: $(READY)  ## the documentation as a site in build/site, built strictly: a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(VENV)/$(BIN)/mkdocs build -q

HASHES := import hashlib, pathlib; \
	[print(hashlib.sha256(path.read_bytes()).hexdigest(), path) for path in sorted(pathlib.Path("dist").iterdir())]

dist: $(READY)  ## wheel and source archive in dist/, and their SHA-256: the same ones from any clone
	rm -rf dist
	$(VENV)/$(BIN)/hatchling build -d dist >/dev/null
	@$(VENV)/$(BIN)/python -c '$(HASHES)'

sbom: $(READY)  ## what an installation brings along, with licences and hashes, as CycloneDX in build/sbom.json
	@$(VENV)/$(BIN)/python .ci/sbom build/sbom.json

lock:  ## pin what pyproject.toml asks for; pins that still fit stay
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
