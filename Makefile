# `make demo` runs the main job, `make test` the whole suite. Both need only Python >= 3.11, make and a package index.
# Everything is installed into .venv; a second run finds it there. ARGS goes to the command: make demo ARGS='--port 9000'

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTHONS = $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python

help:
	@echo 'make demo    broker, server, simulation and web page; prints the URL'
	@echo 'make lab     JupyterLab with the notebooks'
	@echo 'make test    the whole test suite'
	@echo 'make check   lint, format and types'
	@echo 'make bench   benchmarks, delivery side by side with other servers'
	@echo 'make soak    the long runs'
	@echo 'make samples the recordings in sample_data again'
	@echo 'make clean   remove .venv and what was built'

demo: $(VENV)/base
	@$(BIN)/syndarix-rt demo $(ARGS)

lab: $(VENV)/lab
	@$(BIN)/syndarix-rt lab $(ARGS)

# Four at a time, also on two cores: of their time three leave a seventh idle, four a twentieth. More would starve servers.
test: $(VENV)/test
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

check: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/test $(VENV)/bench
	@for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" $(ARGS) || exit 1; done

soak: $(VENV)/test
	@for script in benchmarks/soak_*.py; do $(BIN)/python "$$script" $(ARGS) || exit 1; done

samples: $(VENV)/test
	@$(BIN)/python sample_data/make.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# One stamp a set of packages; it is older than pyproject.toml when the dependencies may have changed. What is imported is
# compiled then, if Python may keep it; to compile all, of which most is never imported, takes as long as to install it.
unexport PYTHONDONTWRITEBYTECODE
$(VENV)/base: PACKAGES = --editable .
$(VENV)/lab: PACKAGES = --editable '.[notebook,analysis]' jupyterlab
$(VENV)/test: PACKAGES = --editable '.[test]'
$(VENV)/bench: PACKAGES = --requirement benchmarks/requirements.txt
$(VENV)/base $(VENV)/lab $(VENV)/test $(VENV)/bench: $(BIN)/python pyproject.toml
	@echo "Installing into $(VENV): $(PACKAGES) (the first time takes a minute or two)"
	@$(PIP) install --no-compile $(PACKAGES)
	@touch $@

# Tries each candidate, because a name on PATH may be a shim for a Python that is not there, or lack the venv module. The
# pip that comes with an older Python takes twice as long as today's, which is there in three seconds.
$(BIN)/python:
	@for python in $(PYTHONS); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null >&2 || continue; \
	  found=$$python; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null >&2 || continue; \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) && $(PIP) install --no-compile --upgrade pip; exit; \
	done; \
	if [ -n "$$found" ]; then \
	  echo "$$found cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt-get install python3-venv)"; \
	else \
	  echo 'No Python >= 3.11 found: install one, or name it: make PYTHON=/path/to/python3 ...'; \
	fi >&2; exit 1

.PHONY: help demo lab test check bench soak samples clean
