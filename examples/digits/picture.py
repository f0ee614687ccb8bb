"""Draw the demo's picture: `python examples/digits/picture.py PACKAGE CERTIFICATES.npz PNG`.

The accuracy that is certified at every radius, and the accuracy that an attack leaves: no
certificate can lie above it, so the room between the two is all that is not known.
"""

from __future__ import annotations

import sys

import numpy as np

import vercomp
from vercomp.data import load_data
from vercomp.outputs import write_atomically
from vercomp.report.picture import certified_accuracy_picture

RADII = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)


def main(package: str, certificates: str, png: str) -> None:
    """Attack the same digits at a few radii, draw, write."""
    network = vercomp.load_package(package)
    data = load_data("digits", network.network.input_shape)
    attacked = [
        (radius, float((network.attack(data.x, data.y, radius).margin > 0).double().mean()))
        for radius in RADII
    ]
    with np.load(certificates) as arrays:
        picture = certified_accuracy_picture(
            arrays,
            f"{len(data)} test digits, certified against every other class",
            attacked=attacked,
            unit="pixels in [0, 1], 64 of them",
        )
    write_atomically(png, picture)
    print(f"wrote {png}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
