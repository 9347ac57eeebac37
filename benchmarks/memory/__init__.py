"""What an estimate and a state take in memory: `python -m benchmarks.memory`."""
