# QA Lab. Two commands are all a newcomer needs: `make site` and `make test`.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help site test prove record replicate pilot portable falsify mutate bench fix lint unit notebooks \
	machine plain avx2 jitter-unit jitter-notebooks sample build clean

PORT ?= 8000
JOBS ?= 2
SEED ?= 100

# The first Python that is new enough; without one, python3, and the set-up says what is missing.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done),python3)
BIN := .venv/bin
READY := .venv/.ready
UNIT := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile
NBVAL := $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout 120 -q \
	-n $(JOBS) --dist loadscope

# What stands in for other processors: fewer instructions, and every result moved by a rounding error.
PLAIN := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE DNNL_MAX_CPU_ISA=SSE41
AVX2 := ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=AVX2 DNNL_MAX_CPU_ISA=AVX2
JITTER := -p tests.tools.jitter
MECHANISMS := tests/transformer tests/experiments

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1
# Silences a notice about the end of MkDocs 1, which pyproject.toml stays with.
export NO_MKDOCS_2_WARNING := 1

help: ## say what can be asked for
	@echo "QA Lab: every answer is proved by running it."
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

site: $(READY) ## build the guide in both languages and serve it on localhost (PORT=8000)
	@$(BIN)/python -m qa_lab.guide.serve --port $(PORT) --check
	@$(MAKE) --no-print-directory build
	@$(BIN)/python -m qa_lab.guide.serve --port $(PORT)

# Whatever fails, the rest still runs: a broken mechanism shows in its unit test and in its claims.
test: $(READY) ## run lint, unit tests, every proof, a sample of portable, and the strict site builds
	@$(MAKE) --no-print-directory --keep-going machine lint unit notebooks sample build
	@echo "== All of it holds."

prove: $(READY) ## prove one question again: make prove Q=why-scale
	@$(BIN)/python -m qa_lab.claims prove $(Q)

record: $(READY) ## execute and record one notebook (Q=why-scale), or all that changed
	@$(BIN)/python -m qa_lab.claims record $(Q)

replicate: $(READY) ## prove everything with seeds nobody has seen: SEED=100 and the following
	@echo "== Every claim, from seed $(SEED) on"
	@QA_LAB_FIRST_SEED=$(SEED) $(NBVAL) notebooks

pilot: $(READY) ## try every random claim on 100 seeds, and count how often it misses (Q=…)
	@$(BIN)/python -m tests.tools.replicate --jobs $(JOBS) $(Q)

portable: $(READY) ## test and prove everything as other processors would: half an hour
	@$(MAKE) --no-print-directory --keep-going plain avx2 jitter-unit jitter-notebooks
	@echo "== All of it holds on other processors, as far as this one can tell."

falsify: $(READY) ## break the lab on purpose, edit by edit, and see which claims notice (Q=…)
	@$(BIN)/python -m tests.tools.falsify --jobs $(JOBS) $(Q)

mutate: $(READY) ## break the lab and the claims line by line, and see which unit test notices
	@$(BIN)/python -m tests.tools.mutation --jobs $(JOBS)

bench: $(READY) ## time the lab beside PyTorch's layers and Hugging Face's models
	@$(BIN)/python -m tests.tools.bench

fix: $(READY) ## let the formatter and the linter mend what they can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(READY)
	@echo "== Lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

unit: $(READY)
	@echo "== Unit tests"
	@$(UNIT) tests

notebooks: $(READY)
	@echo "== Every proof, run again"
	@$(NBVAL) notebooks

machine: $(READY)
	@echo "== On this machine"
	@$(BIN)/python -m tests.tools.machine

# The parts of `portable`.
plain: $(READY)
	@$(PLAIN) $(MAKE) --no-print-directory --keep-going machine unit notebooks

avx2: $(READY)
	@$(AVX2) $(MAKE) --no-print-directory --keep-going machine unit notebooks

jitter-unit: $(READY)
	@echo "== Unit tests of the mechanisms, every result moved by a rounding error"
	@$(UNIT) $(JITTER) $(MECHANISMS)

jitter-notebooks: $(READY)
	@echo "== Every proof, every result moved by a rounding error"
	@$(NBVAL) $(JITTER) notebooks

# By rule, so that nobody picks what passes: every fifth test, and the three quickest notebooks.
sample: $(READY)
	@echo "== A sample of it again, as another processor would"
	@$(PLAIN) $(BIN)/python -m tests.tools.machine
	@$(PLAIN) $(UNIT) -p tests.tools.sample --every 5 $(MECHANISMS)
	@$(PLAIN) $(NBVAL) $$($(BIN)/python -m tests.tools.sample 3)

build: $(READY)
	@echo "== The site, in English and Chinese"
	@$(BIN)/python -m qa_lab.guide.build

clean: ## remove the virtual environment and everything that was built
	rm -rf .venv build .pytest_cache .ruff_cache .import_linter_cache

# Set-up runs once, and again only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "QA Lab needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing). Name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "== Setting up .venv with $$($(PYTHON) --version): once, a few minutes"
	@$(PYTHON) -m venv .venv || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/pip install --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
