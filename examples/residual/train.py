"""Train a small residual network on digits and export it: `python examples/residual/train.py`.

Convolutions, frozen batch norms, a skip connection, average pooling: everything that image networks
are made of, at a size that trains in a minute. The curvature bound of the very network is a term of
the loss, read from its live parameters and running statistics.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

import vercomp
from vercomp.data import load_data

OUTPUT = Path(__file__).with_name("residual.onnx")
EPOCHS, BATCH = 20, 64
PENALTY = 1e-3  # weight of the curvature bound, its mean over all pairs of classes


class Residual(nn.Module):
    """A stem, one residual block with batch norms, a mean over 2×2 windows, a dense head."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(channels)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(4 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10) of images (B, 1, 8, 8)."""
        x = softplus(self.stem_norm(self.stem(x)))
        x = softplus(x + self.conv_norm(self.conv(x)))
        return self.head(self.pool(x).flatten(1))


def train() -> Residual:
    """The trained classifier; the same on every run of the same build of torch."""
    torch.manual_seed(0)
    model = Residual()
    curvature = vercomp.regularizer(model.eval(), input_shape=(1, 8, 8))
    data = load_data("digits:train", (1, 8, 8), tell=lambda line: None)
    steps = len(data) // BATCH
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data))[: steps * BATCH].reshape(steps, BATCH):
            loss = cross_entropy(model.train()(data.x[rows]), data.y[rows])
            optimizer.zero_grad()
            (loss + PENALTY * curvature()).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Write the ONNX file, with a symbolic batch, by the exporter that needs no onnxscript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            path,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )


def main() -> None:
    """Train, say how good the result is, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the ONNX file to write")
    path = parser.parse_args().out
    model = train()
    data = load_data("digits", (1, 8, 8), tell=lambda line: None)
    network = vercomp.compile(model, input_shape=(1, 8, 8))
    certificates = network.certify(data.x, data.y)
    correct = (certificates.prediction == data.y).double().mean()
    radius = certificates.radius.median()
    print(f"{correct:.1%} correct, median certified radius {radius:.3f}", file=sys.stderr)
    export(model, path)
    print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
