"""Train the demo's classifier of digits and export it: `python examples/digits/train.py`.

Two layers with a softplus between, trained so that the certificates are worth having: on the worst
points that projected gradient steps find in a growing l2 ball, with the curvature bound (the very
one that certificates use) as a penalty. Twenty seconds on one core.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import vercomp
from vercomp.data import load_data

OUTPUT = Path(__file__).with_name("digits.onnx")
EPOCHS, BATCH = 60, 64
RADIUS = 0.5  # of the balls attacked in training, in the units of the input: pixels in [0, 1]
PENALTY = 0.01  # weight of the curvature bound, its mean over all pairs of classes


def worst_points(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Points of a large loss in the l2 ball around each input, by five projected gradient steps."""
    offset = torch.zeros_like(x)
    for _ in range(5):
        offset.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(x + offset), y), offset)
        step = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
        offset = offset.detach() + 0.5 * radius * step
        offset = offset * (radius / offset.norm(dim=1, keepdim=True).clamp_min(radius))
    return x + offset


def train() -> nn.Module:
    """The trained classifier; the same on every run of the same build of torch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 10))
    curvature = vercomp.regularizer(model, input_shape=(64,))
    data = load_data("digits:train", (64,))
    steps = len(data) // BATCH
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for epoch in range(EPOCHS):
        radius = RADIUS * min(1.0, 3 * (epoch + 1) / EPOCHS)
        for rows in torch.randperm(len(data))[: steps * BATCH].reshape(steps, BATCH):
            x, y = data.x[rows], data.y[rows]
            loss = cross_entropy(model(worst_points(model, x, y, radius)), y)
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
            (torch.zeros(1, 64),),
            path,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )


def main() -> None:
    """Train, say how good the result is, write it."""
    parser = argparse.ArgumentParser(description="Train the demo's classifier of digits.")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the ONNX file to write")
    path = parser.parse_args().out
    model = train()
    test = load_data("digits", (64,))
    accuracy = (model(test.x).argmax(1) == test.y).double().mean()
    print(f"test accuracy {accuracy:.2%}, written to {path}", file=sys.stderr)
    export(model, path)


if __name__ == "__main__":
    main()
