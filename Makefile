# Etude's commands. `make help` lists them; each builds what it needs first.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
# How environments are installed: --lazy compiles what is imported, when it is.
INSTALL ?=
# Processes of the test run; each has its own PostgreSQL, Valkey and Redis. As many as the cores that
# CI has: with three and four, tests with deadlines failed.
JOBS ?= 2
# Those of the chaos tests, which want the processor for what they kill.
STORMS ?= 2
# More arguments for pytest, as in: make test ARGS="-k lease -x"
ARGS ?=
# All tests together take every branch of the pure core (pyproject.toml, tool.coverage).
COVERAGE = $(if $(ARGS),,--cov --cov-report=term-missing:skip-covered)
# The demo: POLICY (small or tiny), ENGINE (transformers or vllm), MINUTES at most.
POLICY ?= small
ENGINE ?= transformers
MINUTES ?= 10

SOURCES := proto services requirements tests $(sort $(patsubst %/,%,$(dir $(wildcard deploy/*/*.py))))
DOCKERFILES := $(wildcard deploy/images/*Dockerfile* deploy/images/*/Dockerfile*)
STAGES := setup check contract-check test test-vllm chaos
# The long storm: FAULTS faults within SECONDS, by SEED.
FAULTS ?= 1000
SECONDS ?= 600
SEED ?= 1

# Every process that a test starts would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE
# One thread a test process: the processes together already fill two cores.
test test-vllm chaos chaos-long: export OMP_NUM_THREADS = 1
ci: export INSTALL := --lazy
demo: export POLICY := $(POLICY)
demo: export ENGINE := $(ENGINE)
demo: export MINUTES := $(MINUTES)

.PHONY: help setup setup-vllm lock check format types imports collect sizes images \
	contract contract-check test test-vllm chaos chaos-long bench demo site rehearse ci clean
.DEFAULT_GOAL := help

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Build .venv: all services' commands, tests, lint (no-op when current)
	@$(PYTHON) requirements/install.py dev $(INSTALL)

setup-vllm:  ## Build .venv-vllm: real vLLM on CPU
	@$(PYTHON) requirements/install.py vllm $(INSTALL)

lock: setup  ## Resolve requirements/*.in anew into pinned, hashed files
	cd requirements && for name in dev sampler rollout trainer vllm bfcl frameworks site; do \
	  case $$name in dev|vllm|site) extra="" ;; bfcl|frameworks) extra="--no-deps" ;; *) extra="-c dev.txt" ;; esac; \
	  ../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --excludes excludes.txt $$extra $$name.in -o $$name.txt || exit 1; \
	done

check: setup  ## Format, lint, types, import rules, sizes, images
	@$(MAKE) --no-print-directory -j2 --output-sync types format imports sizes images

format:
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types:
	$(PY) -m mypy $(SOURCES)

imports:
	.venv/bin/lint-imports

# Imports what the tests import: what one process compiled, four need not compile at once.
collect:
	$(PY) -m pytest -q --collect-only tests

sizes:
	$(PY) -m pytest -q --durations=0 tests/architecture/test_sizes.py

images:
	$(if $(DOCKERFILES),.venv/bin/hadolint $(DOCKERFILES),@echo "no Dockerfiles")
	$(if $(wildcard docker-compose.yml),.venv/bin/docker-compose --env-file .env.example --profile '*' config -q)

contract: setup  ## Rewrite OpenAPI, .env.example and the generated docs
	$(PY) proto/generate.py

contract-check: contract  ## The same, and fail if that changed a file
	@changed=$$(git status --porcelain -- proto docs .env.example); \
	  if [ -n "$$changed" ]; then \
	    echo "The contract has drifted; run make contract and commit:"; echo "$$changed"; \
	    git --no-pager diff --stat -- proto docs .env.example; exit 1; \
	  fi

test: setup  ## Unit, integration, contract, architecture, end to end; real servers
	@mkdir -p .reports
	$(PY) -m pytest -m "not vllm and not bench and not chaos" -n $(JOBS) --dist worksteal --junitxml=.reports/test.xml $(COVERAGE) $(ARGS)

test-vllm: setup setup-vllm  ## The end-to-end test and weight updates on real vLLM
	$(PY) -m pytest -m vllm --junitxml=.reports/test-vllm.xml tests/e2e $(ARGS)

chaos: setup  ## Kill, stop, cut, fill and rewind everything at random, in short; then audit
	$(PY) -m pytest -m chaos -n $(STORMS) --junitxml=.reports/chaos.xml tests/chaos $(ARGS)

chaos-long: setup  ## The same for long: FAULTS=1000 SECONDS=600 SEED=1
	PYTHONPATH=tests $(PY) tests/chaos/long_storm.py --faults $(FAULTS) --seconds $(SECONDS) \
	  --seed $(SEED) $(ARGS)

bench: setup  ## The figures of docs/benchmarks.md
	$(PY) tests/bench/loop.py $(ARGS)
	$(PY) tests/bench/training_batch.py

demo: setup  ## The whole loop on real tasks, at most MINUTES; POLICY=tiny, ENGINE=vllm
	$(if $(filter vllm,$(ENGINE)),@$(MAKE) --no-print-directory setup-vllm)
	@$(PY) deploy/local/demo.py

site:  ## The documentation as a site, in build/site; every link is checked
	@$(PYTHON) requirements/install.py site $(INSTALL)
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict

rehearse: setup  ## Images built, compose file up, everything killed once; root, Linux; WORK=DIR keeps
	PYTHONPATH=tests $(PY) -m rehearsal $(if $(WORK),--work $(WORK)) $(ARGS)

# Beside the checks, modules are compiled and vLLM's environment is built. The stage that needs it
# waits for it, and builds it itself, with what went wrong to be read, if that failed.
ci:  ## Everything that .ci/run runs, with the time of each stage
	@rm -rf .reports && mkdir -p .reports
	@beside=; trap 'test -z "$$beside" || kill $$beside 2>/dev/null' EXIT; \
	for stage in $(STAGES); do \
	  echo "=== $$stage"; began=$$(date +%s); \
	  $(MAKE) --no-print-directory $$stage || { echo "=== $$stage FAILED"; exit 1; }; \
	  echo "$$stage $$(($$(date +%s) - began)) s" | tee -a .reports/stages.txt; \
	  test $$stage != setup || { \
	    $(MAKE) --no-print-directory -k collect setup-vllm >.reports/beside.txt 2>&1 & \
	    beside=$$!; }; \
	done

clean:  ## Remove environments, caches and reports; run data in .etude stays
	rm -rf .venv .venv-vllm .venv-site build/site .reports .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find proto services tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf proto/*.egg-info services/*/*.egg-info proto/build services/*/build
