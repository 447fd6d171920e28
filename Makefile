# Needs python3 (3.11 or newer) and make. Everything else goes into .venv, from the hashed locks in requirements/.
SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check install

.PHONY: demo demo-tor test test-net test-faults accuracy check bench fuzz dist lock tools clean help

help:
	@echo 'make demo         measure a small deployment on this machine, start to end (ARGS="--relays 2 ...")'
	@echo 'make demo-tor     the same with a private network of stock tor (installs tor if root)'
	@echo 'make test         tests without network namespaces and without killing processes'
	@echo 'make test-net     tests against real tor and in network namespaces'
	@echo 'make test-faults  whole deployments that are killed, lied to, joined and left'
	@echo 'make accuracy     177 results beside what relays and links counted, on a machine with nothing else to do (three quarters of an hour)'
	@echo 'make fuzz         the parsers of outside bytes under a fuzzer, 20 s each (ARGS="--seconds 60 frames")'
	@echo 'make check        ruff, mypy, layering'
	@echo 'make bench        benchmarks, with their limits'
	@echo 'make dist         the wheel, in dist/'
	@echo 'make lock         new requirements/*.lock (needs uv)'

demo: .venv/run.stamp
	@$(PY) -m flashflow.cli demo $(ARGS)

demo-tor: .venv/run.stamp
	@$(PY) -m flashflow.cli demo --tor $(ARGS)

test: .venv/dev.stamp tools
	@$(PY) -m pytest -q -n auto --dist loadgroup -m "not net and not faults" $(ARGS)

test-net: .venv/dev.stamp tools
	@$(PY) -m pytest -q -m "net and not faults" $(ARGS)

test-faults: .venv/dev.stamp tools
	@$(PY) -m pytest -q -m faults $(ARGS)

accuracy: .venv/dev.stamp tools
	@$(PY) -m benchmarks.accuracy $(ARGS)

check: .venv/dev.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_layering.py

fuzz: .venv/fuzz.stamp
	@PYTHONPATH=.:tests $(PY) -m tests.fuzz $(ARGS)

bench: .venv/dev.stamp
	@$(PY) -m benchmarks $(ARGS)

dist: .venv/dev.stamp
	@$(PY) -m build --no-isolation --wheel --outdir dist .

# --- the environment: made and filled only when a lock or pyproject.toml is newer than the stamp ---

.venv/run.stamp: requirements/build.lock requirements/run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FlashFlow needs Python 3.11 or newer: $(PYTHON) is `$(PYTHON) -V 2>&1` (try make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  if [ "`id -u`" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv >/dev/null; \
	  else \
	    echo "$(PYTHON) has no ensurepip: install it (Debian: apt-get install python3-venv) and run make again" >&2; exit 1; \
	  fi
	@echo 'Setting up .venv (once; a minute or so) ...'
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@$(PIP) --require-hashes -r requirements/build.lock
	@$(PIP) --require-hashes --no-build-isolation -r requirements/run.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.lock
	@$(PIP) --require-hashes --no-build-isolation -r requirements/dev.lock
	@touch $@

# The fuzzer has wheels for some versions of Python only: without it `make fuzz` says so.
.venv/fuzz.stamp: .venv/dev.stamp requirements/fuzz.lock
	@$(PIP) --require-hashes --only-binary :all: -r requirements/fuzz.lock 2>/dev/null || true
	@touch $@

# What some tests need beside Python: a real tor, ip and tc for network namespaces, and clocks that are off. Without root
# those tests are skipped. RUNLEVEL=1 keeps Debian from starting a tor service of its own.
tools:
	@if ! { command -v tor && command -v tor-gencert && command -v ip && command -v datefudge; } >/dev/null 2>&1; then \
	  if [ "`id -u`" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'Installing tor, iproute2 and datefudge ...'; \
	    { apt-get -qq update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	      apt-get -qq install -y --no-install-recommends tor iproute2 ethtool datefudge; } >/dev/null || exit 1; \
	  else \
	    echo 'tor, iproute2 or datefudge is missing (apt-get install tor iproute2 ethtool datefudge): the tests that need them are skipped'; \
	  fi; \
	fi

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock:
	@command -v uv >/dev/null || { echo 'make lock needs uv (pip install uv)' >&2; exit 1; }
	$(LOCK) requirements/build.in -o requirements/build.lock
	$(LOCK) pyproject.toml --extra demo -c requirements/build.lock -o requirements/run.lock
	$(LOCK) pyproject.toml --extra demo --group dev -c requirements/build.lock -c requirements/run.lock \
	  -o requirements/dev.lock
	$(LOCK) requirements/fuzz.in -o requirements/fuzz.lock

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
