# Everything is installed into a virtual environment inside the project folder.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test matrix accelerators accelerators-tpu accelerators-cuda bench figures docs clean

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

# Compiled for a TPU v5e and for an H100, which need not be there: in .venv-tpu (1 GB) and .venv-cuda (6 GB).
accelerators: accelerators-tpu accelerators-cuda

accelerators-tpu: .venv-tpu/installed
	ACCELERATOR=v5e .venv-tpu/bin/python -m pytest --confcutdir tests/accelerators tests/accelerators

accelerators-cuda: .venv-cuda/installed
	ACCELERATOR=H100 .venv-cuda/bin/python -m pytest --confcutdir tests/accelerators tests/accelerators

.venv-%/installed: pyproject.toml
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --editable ".[accelerators-$*]" || \
		{ echo "The compiler of $* cannot be installed: it has wheels for Linux alone, and Python 3.11 or newer."; exit 1; }
	touch $@

# Three hours on a machine that does nothing else.
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
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest .venv-tpu .venv-cuda out
