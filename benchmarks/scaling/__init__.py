"""Our overhead as work grows: `python -m benchmarks.scaling`."""
