# Two commands need nothing but Python 3.11-3.13: `make run` and `make test`.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test lint format requirements clean

help:
	@echo "make run            start a dispatcher with one local worker (ARGS='--api-port 8080' passes flags)"
	@echo "make test           lint, types, layers, migrations and the whole test suite"
	@echo "make lint           the same without the test suite"
	@echo "make format         let ruff rewrite the code"
	@echo "make requirements   pin the *.in files again"
	@echo "make clean          remove .venv and caches; data/ stays"

run:
	@exec $(PYTHON) scripts/run.py $(ARGS)

test:
	@exec $(PYTHON) scripts/check.py $(ARGS)

lint:
	@exec $(PYTHON) scripts/check.py --no-tests

format:
	@$(PYTHON) scripts/bootstrap.py --dev
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

PIN = .venv/bin/pip-compile --quiet --strip-extras --no-header --no-emit-options --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links
requirements:
	@$(PYTHON) scripts/bootstrap.py --dev
	$(PIN) --output-file requirements.txt requirements.in
	$(PIN) --output-file requirements-dev.txt requirements-dev.in

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
