# vitrail: `make report` on a fresh machine with Python 3.11 or newer and a package index.
PYTHON ?= python3
PORT ?= 5000
CORES ?= all
SERVICE ?= pypi
CONFIG ?=
# As they were typed, for the shell's variables: neither make nor the shell reads them as code.
override CONFIG := $(value CONFIG)
override PORT := $(value PORT)
override CORES := $(value CORES)
override AGAINST := $(value AGAINST)
override SERVICE := $(value SERVICE)
override OPTIONS := $(value OPTIONS)
export CONFIG PORT CORES AGAINST SERVICE OPTIONS
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A file that is not the one that was locked is refused. One package comes as source alone and
# is built by the setuptools of the lock, put there first; pip would fetch an unlocked one.
HASHED := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
# The steps that Snakemake starts find their Python on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/src
# In the place of its shell, and told which make to end with (`vitrail.watch`).
SNAKEMAKE := exec env VITRAIL_MAKE="$${VITRAIL_MAKE:-$$PPID}" snakemake --cores "$$CORES" $${CONFIG:+--configfile $$CONFIG}

.DEFAULT_GOAL := help
.PHONY: help install bench peers report smoke full test lint unit faults hashes cost growth minute watch ui prune pictures readme quarto format fuzz lock audit clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## set up .venv from requirements.lock

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "vitrail needs Python 3.11, 3.12 or 3.13; choose one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "vitrail: installing the packages of requirements.lock into $(VENV) (about 7 GB, some minutes)"
	@sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(HASHED) -r $(VENV)/setuptools.lock
	$(HASHED) --no-build-isolation -r requirements.lock
	@touch $@

report: $(STAMP) ## run the study and render the report (CONFIG=config/full.yaml for another size)
	@for file in $$CONFIG; do test -f "$$file" || { echo "vitrail: there is no config file $$file (CONFIG=config/smoke.yaml or config/full.yaml)"; exit 2; }; done
	@$(BIN)/python -m vitrail.planning config/default.yaml $$CONFIG
	$(SNAKEMAKE)
	@$(BIN)/python -m vitrail.ending --results results --config config/default.yaml $$CONFIG

smoke: $(STAMP) ## run the study in miniature
	VITRAIL_MAKE=$$PPID $(MAKE) report CONFIG=config/smoke.yaml

test: lint unit ## lint, unit tests, and the smoke study end to end

lint: $(STAMP) ## ruff, snakefmt, snakemake --lint, mypy
	ruff check .
	ruff format --check .
	snakefmt --check --compact-diff Snakefile workflow
	snakemake --lint
	mypy

# The second process of the end-to-end tests waits for SLURM most of the time (tests/conftest.py).
unit: $(STAMP)
	pytest -n 2 --dist loadfile -m "not end_to_end"
	pytest -n 2 --dist loadgroup -m end_to_end

faults: $(STAMP) ## kill the smoke study 25 times and more, and compare with an undisturbed one
	VITRAIL_FAULTS=1 pytest -m end_to_end tests/test_faults.py

hashes: $(STAMP) ## print the hashes of a finished study (AGAINST=other/results compares two)
	@$(BIN)/python -m vitrail.hashes --results results --config config/default.yaml $$CONFIG $${AGAINST:+--against "$$AGAINST"}

cost: $(STAMP) ## print what a finished study cost, by stage, and how well it filled the cores
	@$(BIN)/python -m vitrail.cost_report --results results --config config/default.yaml $$CONFIG

growth: $(STAMP) ## measure how planning grows: generated studies of 100, 1,000 and 10,000 runs (minutes)
	@$(BIN)/python tests/grown.py 100 1000 10000

# Their tables of long sentences would be padded to hundreds of columns.
WIDE_TABLES := report/errata.qmd report/provenance.qmd

format: $(STAMP) ## rewrite the sources in the house format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow
	panache format --quiet $(filter-out $(WIDE_TABLES),$(wildcard report/*.qmd))

watch: $(STAMP) ## show the progress of a run at work, from another terminal
	@$(BIN)/python -m vitrail.progress --results results --config config/default.yaml $$CONFIG

minute: $(STAMP) ## train the ViT and a CNN for one minute, five seeds each (OPTIONS="--seeds 0 --seconds 30")
	@$(BIN)/python -m vitrail.download --out results/data
	@$(BIN)/python -m vitrail.one_minute $$OPTIONS

ui: $(STAMP) ## show the runs in MLflow's UI on 127.0.0.1 (PORT=5001 for another port)
	$(BIN)/python -m vitrail.ui --results results --port="$$PORT"

# The libraries that only the benchmark needs, beside .venv's own packages and not among them:
# two small ones; torch and transformers are there already. The tests find them, too.
PEERS := $(VENV)/peers
bench unit: export PYTHONPATH := $(CURDIR)/src:$(CURDIR)/$(PEERS)

bench: peers ## measure training and inference beside other libraries; writes the README's table
	@$(BIN)/python -m vitrail.download --out results/data
	@$(BIN)/python -m vitrail.bench

peers: $(STAMP)
	@test $(PEERS)/.installed -nt requirements-bench.lock \
	  || { test -z "$${VITRAIL_OFFLINE#0}" && $(HASHED) --no-deps --upgrade --target $(PEERS) -r requirements-bench.lock && touch $(PEERS)/.installed; } \
	  || echo "vitrail: the packages of requirements-bench.lock could not be installed (no package index, or VITRAIL_OFFLINE is set); make bench leaves out what needs them"

prune: $(STAMP) ## delete runs from MLflow that the config no longer asks for (DRY=1 only tells)
	@$(BIN)/python -m vitrail.tracking prune --results results --config config/default.yaml $$CONFIG $(if $(DRY),--dry-run)

pictures: $(STAMP) ## take the pictures of the README from a finished study, in Chromium or Chrome
	@$(BIN)/python -m vitrail.pictures --results results --config config/default.yaml $$CONFIG

readme: $(STAMP) ## write the answers of a finished study into the README
	@$(BIN)/python -m vitrail.readme --results results --config config/default.yaml $$CONFIG

quarto: $(STAMP) ## put the Quarto CLI into .venv, where its download can be reached
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'quarto-cli>=1.6' > $(VENV)/quarto.log 2>&1 \
	  && echo "vitrail: $$($(BIN)/quarto --version) of Quarto is in $(VENV); make report uses it from now on" \
	  || { echo "vitrail: Quarto could not be downloaded (details: $(VENV)/quarto.log); the report is rendered by the built-in route until Quarto 1.6 or newer is on PATH"; exit 1; }

# uv only resolves: it reads the metadata of all platforms in seconds and installs nothing.
fuzz: $(STAMP) ## let Snakemake plan 500 configs that nobody would write (minutes)
	VITRAIL_FUZZ_DRY_RUNS=500 pytest -q -s tests/test_config_fuzz.py

lock: ## pin and hash what pyproject.toml asks for (UPGRADE=1: the newest versions within its bounds)
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	  $(foreach extra,render slurm server pictures dev,--extra $(extra)) --output-file requirements.lock pyproject.toml
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
	  --no-header --constraints requirements.lock --extra bench --output-file $(VENV)/lock/bench pyproject.toml
	@{ echo "# What the extra bench needs beyond requirements.lock; made by make lock."; \
	  awk 'NR == FNR { if (/==/) there[$$1] = 1; next } /^[^ #]/ { new = !($$1 in there) } new' requirements.lock $(VENV)/lock/bench; } > requirements-bench.lock
	rm -rf $(VENV)/lock

# In an environment of its own: what it needs is no part of the project.
audit: ## look the locked packages up in a list of known vulnerabilities (SERVICE=osv for another)
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet pip-audit; }
	@$(VENV)/audit/bin/python -m vitrail.audit --program $(VENV)/audit/bin/pip-audit --service="$$SERVICE"

clean: ## delete the results of all studies (the data, the MLflow store, the benchmark and the one-minute runs stay)
	find -H results -mindepth 1 -maxdepth 1 -type d ! -name data ! -name weights ! -name mlflow-artifacts ! -name one_minute -exec rm -rf {} +
