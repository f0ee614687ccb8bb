"""``python -m vercomp``, and ``torchrun --nproc-per-node N -m vercomp``."""

from vercomp.cli import main

if __name__ == "__main__":
    main()
