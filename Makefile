# The way in: `make bench` measures the default plan and writes a report, `make test` checks everything.
# Both set up what they need: .venv from the lock file (hashes checked), the models, the starter corpus.

PYTHON ?= python3
VENV := .venv
AMIRA := $(VENV)/bin/amira
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: help setup models bench serve gate performance notebooks test lint k2 gpu browser typescript lock clean

help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv and install the locked dependencies.

$(READY): requirements/lock.txt pyproject.toml scripts/setup.sh
	scripts/setup.sh $(PYTHON) $(VENV)
	touch $@

models: setup ## Build the default models and the starter corpus, fetch allocators and Triton, compile sessions.
	$(AMIRA) models build
	$(AMIRA) corpus build
	-$(AMIRA) setup allocators  # where it cannot, the report says so
	-$(AMIRA) setup sessions    # likewise
	-$(AMIRA) setup triton      # likewise

bench: models ## Run the default plan and write a report (about ten minutes on two cores).
	$(AMIRA) bench default

serve: models ## Serve streaming speech recognition on http://127.0.0.1:8080 until Ctrl-C.
	$(AMIRA) serve

gate: models ## Compare this checkout with main in speed, memory and accuracy; the exit code is the verdict.
	$(AMIRA) gate --against main

performance: setup ## Write the tables of PERFORMANCE.md from the stored runs.
	$(AMIRA) performance

notebooks: setup ## Run the notebooks on the curated runs.
	for notebook in notebooks/*.py; do MPLBACKEND=agg $(VENV)/bin/python "$$notebook" || exit 1; done

lint: setup ## Check formatting, lint, types and import directions.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

k2: setup ## Set up the real k2 for decoder/k2, apart from .venv (3.4 GB, prints its size first).
	scripts/k2.sh $(VENV)

gpu: $(if $(AMIRA_WHEELS),,setup) ## Measure the GPU of this machine; without one, say so and end with 4.
	scripts/gpu.sh $(VENV) $(PYTHON)

browser:
	scripts/browser.sh

typescript:
	scripts/typescript.sh

# WORKERS=2: two files at a time, in the order of the folders; 0: one after the other, which is easier to debug.
test: lint models browser typescript ## Run every check and test.
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lock: ## Resolve the dependencies anew into requirements/lock.txt (needs uv).
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		pyproject.toml --extra dev --output-file requirements/lock.txt

clean: ## Remove what was built; the runs in reports/runs stay.
	rm -rf $(VENV) build
