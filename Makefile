# Every command of a developer's day. `make run` and `make test` do all the set-up that they need.
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
BIN := .venv/bin
# Not shipped, but typed, linted and formatted like everything else.
SOURCES := server facade clients/python tools tests

# Side by side on two cores, a test of deadlines may meet a machine that has no time for it. What failed is tried once
# more with nothing beside it: what is broken fails again, and is shown twice.
QUICK_TESTS := $(BIN)/pytest -m "not long and not bench"

.DEFAULT_GOAL := help
.PHONY: help setup browser run test test-long check lock gen bench release clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed node_modules/.installed ## make .venv and node_modules from the locks; quick when nothing changed

run: .venv/.installed ## start a node on loopback with embedded defaults: REST 8080, internal 8081, gRPC 50051
	$(BIN)/tokendance serve

browser: .venv/.installed ## find the Chromium of the browser tests, or install the system's package
	@$(BIN)/python -m dev.browser

test: setup browser .venv-gen/.installed ## run the tests, a quarter of an hour on two cores
	$(QUICK_TESTS) -n 3 --dist loadfile || $(QUICK_TESTS) --last-failed --last-failed-no-failures none

test-long: setup browser .venv-gen/.installed ## run soaks, races with many seeds and everything else that takes its time
	$(BIN)/pytest -m long --timeout 3600

check: setup .venv-gen/.installed ## format, lint, types, import floors, proto rules, generated files
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	.venv-gen/bin/python tools/dev/gen_proto.py --check
	$(BIN)/python tools/dev/check_proto.py
	$(BIN)/python tools/dev/error_docs.py --check
	$(BIN)/python tools/dev/client_docs.py --check
	$(BIN)/python tools/dev/gen_openapi.py --check
	$(BIN)/python tools/dev/gen_reference.py --check
	$(BIN)/python tools/dev/gen_public_openapi.py --check
	$(BIN)/python tools/dev/check_pth.py .venv .venv-gen

lock: ## renew the locks of both Python environments from the pyproject files
	$(PYTHON) tools/dev/lock.py

gen: .venv/.installed .venv-gen/.installed ## write the stubs, proto/api.binpb, proto/errors.md, the OpenAPI documents and the site's references
	.venv-gen/bin/python tools/dev/gen_proto.py
	$(BIN)/python tools/dev/error_docs.py
	$(BIN)/python tools/dev/client_docs.py
	$(BIN)/python tools/dev/gen_openapi.py
	$(BIN)/python tools/dev/gen_reference.py
	$(BIN)/python tools/dev/gen_public_openapi.py

bench: .venv/.installed ## measure the budgets of the design beside their yardsticks
	$(BIN)/python -m dev.bench
	$(BIN)/python -m dev.bench.usage_sums

release: check test ## record the API as released, so that the breaking check holds to it; commit and tag the result
	cp proto/api.binpb proto/released.binpb

clean: ## remove the environments and caches, but never a node's data
	rm -rf .venv .venv-gen .tools node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Python 3.11 puts setuptools into a new environment. It is in no lock, and its .pth runs code at every start.
.venv/.locked: requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -r $<
	$(BIN)/python -m pip uninstall -qq --yes setuptools
	touch $@

# The client first: the gateway depends on it. The build backend comes from the lock, so builds are not isolated.
.venv/.installed: .venv/.locked pyproject.toml clients/python/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation \
	    -e clients/python -e .
	touch $@

# grpcio-tools declares setuptools, but needs it only on Pythons older than ours.
.venv-gen/.installed: requirements/gen.txt
	test -x .venv-gen/bin/python || $(PYTHON) -m venv .venv-gen
	.venv-gen/bin/python $(PIP_INSTALL) -r $<
	.venv-gen/bin/python -m pip uninstall -qq --yes setuptools
	touch $@

node_modules/.installed: package.json package-lock.json .npmrc
	npm ci --no-progress
	touch $@
