# Everything is installed into a virtual environment inside the project folder.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test matrix bench figures docs clean

demo: $(VENV)/demo
	$(RUN) -m examples.digits_cnn

test: $(VENV)/test
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) -m pytest --numprocesses auto --dist loadfile

# The core tests on the oldest and the newest JAX, Optax and Python, in .venv-oldest and .venv-newest.
matrix: $(VENV)/test
	$(RUN) tests/version_matrix.py

# Two hours on a machine that does nothing else.
bench: $(VENV)/bench
	$(RUN) -m benchmarks.cost
	$(RUN) -m benchmarks.train
	$(RUN) -m benchmarks.fits

# Every picture of the documentation, and its table of combinations.
figures: $(VENV)/test
	$(RUN) -m docs.figures
	$(RUN) -m tests.integration.optax_matrix

docs: $(VENV)/docs
	$(RUN) -m sphinx -W -b html docs out/site

# One stamp for each extra: installed once, and again when the project's dependencies change.
$(VENV)/%: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "optax_adahessian needs Python 3.11 or newer: make $* PYTHON=python3.12"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest out
