# Needs Python 3.11+ (with venv and pip) and make; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
SMARTNOISE := .venv-smartnoise

.PHONY: demo test check lint smartnoise clean

demo: $(READY)
	$(PY) -m dpsynth.cli demo

test: $(READY)
	$(PY) -m pytest -q -n 2

check: lint
	$(PY) -m pytest -q -n 2 -m "not slow"

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

# SmartNoise's synthesizers, in an environment of their own (docs/smartnoise.md): about 2 GB, a few minutes.
smartnoise: $(SMARTNOISE)/.ready

$(SMARTNOISE)/.ready: constraints-smartnoise.txt
	$(PYTHON) -m venv $(SMARTNOISE)
	$(SMARTNOISE)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-smartnoise.txt
	@touch $@

clean:
	rm -rf $(VENV) $(SMARTNOISE) build *.egg-info
