"""The curvature bound in a plain PyTorch loop: `python examples/training/plain_loop.py`.

Trains the same small network on scikit-learn's digits twice, from the same seed, without and with
the penalty, and certifies both against every class on the test split. Ten seconds on one core.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import vercomp
from vercomp.data import load_data

SEED, EPOCHS, BATCH = 0, 30, 64
GAMMA = 0.05  # weight of the curvature bound, its mean over all pairs of classes
RADIUS = 0.5  # in the units of the input: pixels in [0, 1]


def train(x: Tensor, y: Tensor, gamma: float, epochs: int = EPOCHS) -> nn.Module:
    """A trained classifier; with gamma = 0 the bound is not even computed."""
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    curvature = vercomp.regularizer(model, input_shape=(64,))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = cross_entropy(model(x[rows]), y[rows])
            if gamma:
                loss = loss + gamma * curvature()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Train without and with the penalty; print what each network is worth."""
    parser = argparse.ArgumentParser(description="The curvature bound in a plain training loop.")
    parser.add_argument("--gamma", type=float, default=GAMMA, help="weight of the bound")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    training, test = load_data("digits:train", (64,)), load_data("digits", (64,))
    print(f"seed {SEED}, {options.epochs} epochs, {len(test)} test inputs, radius {RADIUS}")
    for gamma in (0.0, options.gamma):
        model = train(training.x, training.y, gamma, options.epochs)
        network = vercomp.compile(model, input_shape=(64,))
        found = network.certify(test.x, test.y)  # radius 0 where misclassified
        clean = (found.prediction == test.y).double().mean()
        certified = (found.radius > RADIUS).double().mean()
        largest = network.curvature()[1].max()
        print(
            f"gamma {gamma:<5g} clean {clean:.2%}, certified {certified:.2%}, "
            f"curvature at most {largest:.3g}"
        )


if __name__ == "__main__":
    main()
