# Two words a newcomer needs. Both set up what they use in .venv; nothing is installed anywhere else, except that
# `make test` adds the Debian packages it lacks (php-cli, openssh-client) where it may.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test live lint clean

demo: $(VENV)/installed
	$(BIN)/moodlectl demo

test: $(VENV)/tools
	sh tests/system-packages.sh test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# Against real Moodles: MOODLE_DIRS=/path/to/moodle[:/another] make live   (CONTRIBUTING.md tells more)
LIVE ?= tests/live tests/contract
live: $(VENV)/tools
	sh tests/system-packages.sh live
	$(BIN)/python -m pytest $(LIVE) $(if $(findstring contract,$(LIVE)),--live) --durations=15

$(VENV)/python:
	sh tests/system-packages.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[fast]'
	touch $@

$(VENV)/tools: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
