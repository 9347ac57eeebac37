"""What a step costs beside that of AdamW: `python -m benchmarks.cost`."""
