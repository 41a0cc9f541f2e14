# make run: the whole holding on this machine.   make test: the tests, on real servers of their own.
.DEFAULT_GOAL := run
SHELL := /bin/sh
DATA_DIR ?= var
BIN := .venv/bin
# Processes that the tests are spread over, each with servers of its own; 0: in one, as for -s and --pdb.
WORKERS ?= 2

.PHONY: run stop reset setup setup-dev test test-full lint bench migrate

## What is needed to run, from the lock file; nothing happens while it is up to date.
setup:
	@./scripts/setup.sh run

setup-dev:
	@./scripts/setup.sh dev

run: setup
	@exec $(BIN)/python manage.py up --data-dir "$(DATA_DIR)" $(UP_ARGS)

stop: setup
	@$(BIN)/python -m deployment.embedded stop --data-dir "$(DATA_DIR)"

## Stop and delete all data.
reset: setup
	@$(BIN)/python -m deployment.embedded reset --data-dir "$(DATA_DIR)"

migrate: setup
	@DATA_DIR="$(DATA_DIR)" $(BIN)/python manage.py migrate --database owner

test: setup-dev
	@./scripts/chromium.sh
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not full" $(PYTEST_ARGS)

test-full: setup-dev
	@./scripts/chromium.sh
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@find templates -name '*.html' 2>/dev/null | xargs -r $(BIN)/djade --target-version 5.2 --check
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

## make bench NAME=ingest runs one.
bench: setup-dev
	@$(BIN)/python -m benchmarks $(NAME)
