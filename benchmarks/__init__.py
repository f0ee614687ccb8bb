"""Benchmarks: never timed tests, always side by side in one run."""
