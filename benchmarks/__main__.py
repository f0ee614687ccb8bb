"""``python -m benchmarks``: the solver benchmark."""

from .solver import main

main()
