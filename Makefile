# From a program to weighted posterior particles, and the project's own checks.
#
#   make demo                    install, then the arithmetic circuit from end to end
#   make run PROGRAM=state_space the same for clj-programs/state_space.daphne
#       PROGRAM_FILE=mine.daphne RUN=path/to/folder   a program and a place of your own
#       DATA=table.csv           data that the program leaves free
#       DAPHNE=path/to/checkout  let the original Daphne compile
#       OBSERVE="x0=-9.7 x1=0.8" other data than the program's;  NUM_PARTICLES=10000
#       CONFIG=train.toml        other training settings;  SEED=1;  BUDGET=10m;  KIND=cnf
#       EVALUATE="--num-data-sets 1000"   other settings of evaluate
#       DIAGNOSE="--num-data-sets 200"    other settings of diagnose
#   make test | test-fast | test-slow | test-long | clojure-test | check | format
#   make bench | bench-rivals | figures | clean | help
#
# Everything a run makes stands in runs/PROGRAM; only what is out of date is made again.

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
PROGRAM ?= arithmetic_circuit
PROGRAM_FILE ?= clj-programs/$(PROGRAM).daphne
RUN ?= runs/$(PROGRAM)
DATA ?=
DAPHNE ?=
OBSERVE ?=
CONFIG ?=
BUDGET ?=
# What does best by measurement; `train` decides where settings are given.
KIND ?= $(if $(CONFIG),,auto)
EVALUATE ?=
DIAGNOSE ?=
SEED ?= 0
NUM_PARTICLES ?= 10000
T ?= tests
WORKERS ?= 2

BIN := $(VENV)/bin
BRIDGE := $(BIN)/daphne-bridge
FLOWS := $(BIN)/daphne-flows
INSTALLED := $(VENV)/.installed

.DELETE_ON_ERROR:
.PHONY: demo help run trained answered install test test-fast test-slow test-long clojure-test check format bench bench-rivals figures clean always

demo:
	@$(MAKE) --no-print-directory run PROGRAM=arithmetic_circuit BUDGET=180s \
	    EVALUATE='--num-draws 5000' \
	    DIAGNOSE='--num-data-sets 100'

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# --- installation -----------------------------------------------------------------

install: $(INSTALLED)

$(INSTALLED): pyproject.toml .constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	    --constraint .constraints.txt --editable '.[dev]'
	@touch $@

# --- one run: program -> graph -> inverse -> artifact -> particles -------------------

# A program with discrete latents, or without data, is answered without a flow. What is
# installed was looked at already.
run: $(RUN)/.checked
	@if grep -Eq '"(latents|observed)": 0,|"discrete_latents": [1-9]' $(RUN)/check.json; \
	then goal=answered; else goal=trained; fi; \
	$(MAKE) --no-print-directory --old-file=$(INSTALLED) $$goal

trained: $(RUN)/report.html
	@$(FLOWS) summary $(RUN); code=$$?; echo "report: $<"; exit $$code

answered: $(RUN)/answer/inference.json
	@$(FLOWS) summary $(RUN); code=$$?; echo "report: $(RUN)/report.html"; exit $$code

# An answer that cannot be trusted, exit code 3, is kept and shown: `summary` ends the
# run with that code.
OR_DOUBTED = || [ $$? -eq 3 ]

$(RUN)/answer/inference.json: $(RUN)/graph.json $(RUN)/.observe $(RUN)/.training
	@$(FLOWS) infer $(RUN)/graph.json -o $(RUN)/answer --seed $(SEED) \
	    --num-particles $(NUM_PARTICLES) $(if $(BUDGET),--budget $(BUDGET)) \
	    $(foreach o,$(OBSERVE),--observe $(o)) --json > /dev/null \
	    $(OR_DOUBTED)
	@$(FLOWS) report $(RUN) > /dev/null

$(RUN):
	@mkdir -p $@

# What a rule depends on besides files: rewritten only when it changes.
$(RUN)/.compiler: always | $(RUN)
	@echo '$(DAPHNE) $(DATA)' | cmp -s - $@ || echo '$(DAPHNE) $(DATA)' > $@

$(RUN)/.observe: always | $(RUN)
	@echo '$(OBSERVE) $(NUM_PARTICLES)' | cmp -s - $@ \
	    || echo '$(OBSERVE) $(NUM_PARTICLES)' > $@

$(RUN)/.training: always | $(RUN)
	@echo '$(CONFIG) $(SEED) $(BUDGET)$(if $(KIND), $(KIND))' | cmp -s - $@ \
	    || echo '$(CONFIG) $(SEED) $(BUDGET)$(if $(KIND), $(KIND))' > $@

$(RUN)/graph.json: $(PROGRAM_FILE) $(DATA) $(RUN)/.compiler $(INSTALLED)
	@$(BRIDGE) compile $(PROGRAM_FILE) -o $@ $(if $(DATA),--data '$(DATA)') \
	    $(if $(DAPHNE),--daphne '$(DAPHNE)')
	@cp $(PROGRAM_FILE) $(RUN)/program.daphne

# The model's digest leaves out names and data, so that new data alone trains nothing.
$(RUN)/.checked: $(RUN)/graph.json
	@$(BRIDGE) check $< --json > $(RUN)/check.json
	@grep '"digest"' $(RUN)/check.json > $@
	@cmp -s $@ $(RUN)/.model || cp $@ $(RUN)/.model

$(RUN)/.model: $(RUN)/.checked
	@test -f $@ || cp $< $@

$(RUN)/inverse.json: $(RUN)/graph.json
	@$(BRIDGE) invert $< -o $@

$(RUN)/artifact/manifest.json: $(RUN)/.model $(RUN)/.training $(CONFIG)
	@resume=; state=$(RUN)/artifact.training/checkpoint.safetensors; \
	if [ $$state -nt $(RUN)/.model ] && [ $$state -nt $(RUN)/.training ] \
	    $(if $(CONFIG),&& [ $$state -nt $(CONFIG) ]); then resume=--resume; fi; \
	$(FLOWS) train $(RUN)/graph.json -o $(RUN)/artifact --seed $(SEED) \
	    $(if $(CONFIG),--config $(CONFIG)) $(if $(BUDGET),--budget $(BUDGET)) \
	    $(if $(KIND),--kind $(KIND)) $$resume \
	    $(OR_DOUBTED)

$(RUN)/particles/summary.json: $(RUN)/artifact/manifest.json $(RUN)/graph.json $(RUN)/.observe
	@$(FLOWS) sample $(RUN)/artifact $(RUN)/graph.json -o $(RUN)/particles \
	    --num-particles $(NUM_PARTICLES) $(foreach o,$(OBSERVE),--observe $(o)) \
	    > /dev/null $(OR_DOUBTED)

$(RUN)/.evaluate: always | $(RUN)
	@echo '$(EVALUATE)' | cmp -s - $@ || echo '$(EVALUATE)' > $@

$(RUN)/evaluation.json: $(RUN)/artifact/manifest.json $(RUN)/.evaluate
	@echo "measuring the flow as a proposal"
	@$(FLOWS) evaluate $(RUN)/artifact $(RUN)/graph.json -o $@ $(EVALUATE) > /dev/null

$(RUN)/.diagnose: always | $(RUN)
	@echo '$(DIAGNOSE)' | cmp -s - $@ || echo '$(DIAGNOSE)' > $@

$(RUN)/diagnosis/diagnosis.json: $(RUN)/artifact/manifest.json $(RUN)/.diagnose
	@echo "looking where the flow is wrong"
	@$(FLOWS) diagnose $(RUN)/artifact $(RUN)/graph.json -o $(RUN)/diagnosis \
	    $(DIAGNOSE) > /dev/null

$(RUN)/report.html: $(RUN)/particles/summary.json $(RUN)/evaluation.json \
    $(RUN)/inverse.json $(RUN)/diagnosis/diagnosis.json
	@$(FLOWS) report $(RUN) > /dev/null

# --- the project's own checks --------------------------------------------------------

test: $(INSTALLED)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m 'not slow and not long and not cuda' $(T)

test-fast: $(INSTALLED)
	@FAST=1 $(BIN)/python -m pytest -q -m 'not slow and not long and not cuda' -x $(T)

test-slow: $(INSTALLED)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m 'slow and not cuda' $(T)

test-long: $(INSTALLED)
	@$(BIN)/python -m pytest -q -m 'long and not cuda' $(T)

check: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Says so and succeeds where Clojure is missing.
clojure-test: $(INSTALLED)
	@$(BIN)/python -m pytest -q -rs tests/flows/test_clojure_reader.py

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# sbi's neural posterior estimation beside `train`, an hour at 60 s; NumPyro's NUTS and
# pocoMC beside `infer`, half an hour; NumPyro's enumeration, a minute.
bench-rivals: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	    --constraint .constraints.txt --editable '.[rivals]'
	@$(BIN)/python -m tests.bench.rival_npe
	@$(BIN)/python -m tests.bench.rival_samplers
	@$(BIN)/python -m tests.bench.rival_enumeration

bench: $(INSTALLED)
	@for script in tests/bench/bench_*.py; do \
	    name=$$(basename $$script .py); echo "== $$name"; \
	    $(BIN)/python -m tests.bench.$$name || exit 1; done

# The paper's figures into runs/figures; FAST=1 for minutes, LENGTH=paper for most of a day (in
# several sittings: interrupted runs go on), ONLY="fig4 fig6", LATENTS_FROM=patches.
figures: $(INSTALLED)
	@$(BIN)/python -c 'import matplotlib, sklearn' 2>/dev/null \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
	    --constraint .constraints.txt --editable '.[figures,digits]'
	@$(BIN)/python -m flows.experiments $(if $(FAST),--length fast,$(if $(LENGTH),--length '$(LENGTH)')) \
	    $(foreach each,$(ONLY),--only $(each)) \
	    $(if $(LATENTS_FROM),--latents-from '$(LATENTS_FROM)')

clean:
	rm -rf runs .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
