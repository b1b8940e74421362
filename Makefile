# The front door. Needs make, git and Python >= 3.11; everything else is installed into this folder.
#
# Two environments, so that serving never pulls torch: .venv serves, .venv-test trains, tests and lints. Each has a
# stamp that depends on pyproject.toml and constraints.txt, so the second run starts at once.
#
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CACHE_DIR, proxies ...) and the service's (REDIS_URL,
# NONESUCH_*) are read from the environment, which make hands on untouched.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
ARGS ?=

VENV := .venv
TEST_VENV := .venv-test
PINS := pyproject.toml constraints.txt
PIP := -m pip --disable-pip-version-check --no-input
IN_TEST_VENV := PATH="$(CURDIR)/$(TEST_VENV)/bin:$$PATH"

# HOST is taken from the command line alone: some shells export a HOST of their own, the machine's name.
SERVE_FLAGS := $(if $(PORT),--port $(PORT)) $(if $(filter command,$(firstword $(origin HOST))),--host $(HOST))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.stamp ## serve the bundles on http://127.0.0.1:8000 (PORT=, HOST=, ARGS=, REDIS_URL, NONESUCH_*)
	@exec $(VENV)/bin/nonesuch serve $(SERVE_FLAGS) $(ARGS)

test: $(TEST_VENV)/.stamp ## run the tests, with a real Redis and torch (ARGS= goes to pytest)
	@$(IN_TEST_VENV) python -m pytest -n logical --dist loadfile -m "not slow" $(ARGS)

test-slow: $(TEST_VENV)/.stamp ## run the tests that train for long to look at one thing, some minutes more
	@$(IN_TEST_VENV) python -m pytest -n logical --dist loadfile -m slow $(ARGS)

lint: $(TEST_VENV)/.stamp ## ruff, mypy and the arrows between the rooms
	@$(IN_TEST_VENV) ruff check .
	@$(IN_TEST_VENV) ruff format --check .
	@$(IN_TEST_VENV) mypy
	@$(IN_TEST_VENV) lint-imports

train: $(TEST_VENV)/.stamp ## train and export a bundle: RECIPE=recipes/breast-cancer.yaml
	@test -n "$(RECIPE)" || { echo "make train needs RECIPE=, one of:" >&2; ls recipes/*.yaml >&2; exit 2; }
	@exec $(TEST_VENV)/bin/nonesuch train "$(RECIPE)" $(ARGS)

mutants: $(TEST_VENV)/.stamp ## show that the tests fail where the code is wrong (ARGS= picks mutants by name)
	@$(IN_TEST_VENV) python tests/mutants.py $(ARGS)

fuzz: $(TEST_VENV)/.stamp ## send the service 2,000 requests an operation, as OpenAPI allows and not (ARGS="--examples 100")
	@$(IN_TEST_VENV) python tests/fuzz.py $(ARGS)

bench: $(TEST_VENV)/.stamp ## compare with other servers (needs wrk), or run another of benchmarks/: BENCH=overload (ARGS=)
	@test -e "benchmarks/$(or $(BENCH),against_others).py" || { echo "make bench knows BENCH= one of:" >&2; \
		ls benchmarks/*.py | xargs -n 1 basename -s .py >&2; exit 2; }
	@$(IN_TEST_VENV) python -m benchmarks.$(or $(BENCH),against_others) $(ARGS)

schema: $(TEST_VENV)/.stamp ## write docs/manifest.schema.json from the manifest's model
	@$(IN_TEST_VENV) python -m commands.schema docs/manifest.schema.json

clean: ## remove both environments and the tools' caches
	rm -rf $(VENV) $(TEST_VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis

.PHONY: help serve test test-slow lint train mutants fuzz bench schema clean

# An environment that has been moved or copied holds the old folder's path in its scripts: install it anew.
define stale
ifneq ($$(strip $$(shell cat $(1)/.stamp 2>/dev/null)),$$(strip $$(shell pwd)))
.PHONY: $(1)/.stamp
endif
endef
$(foreach venv,$(VENV) $(TEST_VENV),$(eval $(call stale,$(venv))))

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Nonesuch needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
@test "$$(cat $(@D)/.stamp 2>/dev/null || pwd)" = "$$(pwd)" || rm -rf $(@D)
@$(@D)/bin/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(@D) || { \
	echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it comes with the package python3-venv." >&2; exit 1; }
endef

$(VENV)/.stamp: $(PINS)
	$(environment)
	@echo "Installing what the service needs into $(VENV) (some 100 MB, once; no torch) ..."
	@$(@D)/bin/python $(PIP) install --quiet -c constraints.txt -e '.[cpu]'
	@pwd > $@.new && mv $@.new $@

# torch goes first and alone, exactly as pinned, so that a build found by PIP_FIND_LINKS or PIP_INDEX_URL is taken.
$(TEST_VENV)/.stamp: $(PINS)
	$(environment)
	@$(@D)/bin/python -c 'import torch' 2>/dev/null || { \
		echo "Tests and training need torch, which is LARGE: on Linux the default build brings CUDA libraries, several GB."; \
		echo "A CPU build (200 MB) is enough: point PIP_FIND_LINKS or PIP_INDEX_URL at one, or stop now with Ctrl-C."; }
	@$(@D)/bin/python $(PIP) install -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	@echo "Installing the tools for training and tests into $(TEST_VENV) (some 400 MB, once) ..."
	@$(@D)/bin/python $(PIP) install --quiet -c constraints.txt -e '.[cpu,training,dev]'
	@pwd > $@.new && mv $@.new $@
