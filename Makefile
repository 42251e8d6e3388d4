# make train: set up and train LeNet-5 on the embedded digits.   make test: set up and check everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test slow coverage check clean
train: .venv/train.done
	$(BIN)/dltrain

test: .venv/test.done check
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

coverage: .venv/test.done
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow" --cov --cov-report=term

check: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: .venv/test.done
	$(BIN)/pytest -m slow

.venv/train.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dltrain needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Type: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || { echo "making .venv (once; a few minutes, about 6 GB with torch)"; $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/test.done: .venv/train.done requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
