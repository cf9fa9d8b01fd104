# Everything a fresh machine needs: Python 3.11 or newer. See `make help`.
PYTHON ?= python3
# eight, or as many as there are: more jobs than cores only get in each other's way
CORES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n : 8)))
VENV := .venv
BIN := $(VENV)/bin
# some packages hold templates and sources of other versions of Python, which cannot be compiled and need not be
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
# pip compiles on one core what COMPILE does on all
PIP := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt

.PHONY: summary quick everything classifiers report profile docs test test-fast test-slurm test-envs lint style format clean help
.DEFAULT_GOAL := help

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

# torch first and by itself: with it in place nothing else can pull in a different build
$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "Installing into $(VENV), a minute or two ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --upgrade pip
	$(PIP) torch
	$(PIP) --editable '.[workflow]'
	@$(COMPILE)
	@touch $@

# what only those need who change the project
$(DEV): $(RUN)
	@echo "Installing what tests and documentation need ..."
	$(PIP) --editable '.[workflow,dev,docs,semantic]'
	@$(COMPILE)
	@touch $@

summary: $(RUN) ## Install what is missing and make results/summary.xlsx.
	$(BIN)/snakemake --cores $(CORES)

quick: $(RUN) ## A first look in minutes, on a tiny model: runs/quick/results/summary.xlsx.
	$(BIN)/snakemake --configfile configs/quick.yaml --directory runs/quick --cores $(CORES)

everything: $(RUN) ## All methods, beside what summary made: the rows of docs/results.md.
	$(BIN)/snakemake --configfile configs/everything.yaml --cores $(CORES)

classifiers: $(RUN) ## The second track: runs/classifiers/results/final_report.json.
	$(BIN)/snakemake --configfile configs/classifiers.yaml --directory runs/classifiers --cores $(CORES) classifiers

report: summary ## Snakemake's own HTML report, results/report.html.
	$(BIN)/snakemake --report results/report.html

profile: $(RUN) ## Where the time of the last run went, by rule.
	$(BIN)/python workflow_scripts/profile.py logs/benchmarks

# always all pages anew: a broken link in an unchanged one would not be told again
docs: $(DEV) ## Build the documentation as a site, site/; a broken link fails.
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs site

test: $(DEV) ## All tests; those of the page need a browser: apt-get install chromium chromium-driver.
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: $(DEV) ## Tests of the library alone.
	$(BIN)/python -m pytest -n 2 -m 'not workflow'

test-slurm: $(DEV) ## Through a SLURM of one node started here: root, apt-get install slurm-wlm munge.
	$(PIP) --editable '.[slurm]'
	$(BIN)/python -m pytest -m slurm -rs

test-envs: $(DEV) ## Every rule on its own environment's packages alone: installs 5 GB into .test-envs/.
	$(BIN)/python -m pytest -m envs

style: $(DEV) ## What a commit is checked for: seconds.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules

lint: style ## Style, types, imports between rooms and the workflow's own linter.
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint

format: $(DEV) ## Put sources into their format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

clean: ## Remove everything a run made (not the environment).
	rm -rf baselines encoders results resources logs .snakemake
