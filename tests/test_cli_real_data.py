"""The command line on MNIST and a published network, where VERCOMP_DATA says where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import vercomp
from vercomp import cli
from vercomp.data import load_data

DATA = os.environ.get("VERCOMP_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="needs VERCOMP_DATA, a folder with MNIST")
PIXEL = "0.00392156862745098"  # the network takes 0..255, the data are in [0, 1]


@needs_data
@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist"])
def test_the_published_files(kind: str) -> None:
    if not Path(str(DATA), kind).is_dir():
        pytest.skip(f"there is no {kind} in {DATA}")
    for split, count in (("", 10_000), (":train", 60_000)):
        data = load_data(f"{kind}:{DATA}{split}", (1, 28, 28), classes=10)
        assert len(data) == count
        assert data.x.min() == 0
        assert data.x.max() == 1
        assert data.y.unique().tolist() == list(range(10))


@needs_data
@pytest.mark.slow
def test_all_of_mnist_on_a_published_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"{DATA}/onnx/logsig_200_100_50.onnx"
    if not Path(model).is_file():
        pytest.skip(f"there is no {model}")
    options = ["--std", PIXEL, "--data", f"mnist:{DATA}", "--radius", "0.005", "--json", "-"]
    certify = ["certify", model, *options, "--methods", "curvature"]
    with pytest.raises(SystemExit, match="0"):
        cli.main([*certify, "--out", str(tmp_path / "certified")])
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 10_000
    session = onnxruntime.InferenceSession(model)
    images = load_data(f"mnist:{DATA}", (1, 1, 784), tell=lambda line: None)
    name = session.get_inputs()[0].name
    logits = [session.run(None, {name: x})[0] for x in (255 * images.x[:, None]).numpy()]
    correct = np.concatenate(logits).argmax(1) == images.y.numpy()
    assert found["clean_accuracy"] == pytest.approx(correct.mean(), abs=1e-3)
    assert 0 < found["certified_accuracy"] <= found["clean_accuracy"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["attack", model, *options, "--limit", "400", "--out", str(tmp_path / "broken")])
    attacked = json.loads(capsys.readouterr().out)
    with np.load(tmp_path / "certified" / "certificates.npz") as arrays:
        radius = arrays["radius"][:400]
    assert (radius > 0.005).mean() <= attacked["attacked_accuracy"]

    # No attack enters a certified ball: the worst points at each input's own radius keep the class.
    network = vercomp.compile(model, std=float(PIXEL))
    data = load_data(
        f"mnist:{DATA}", network.network.input_shape, limit=200, tell=lambda line: None
    )
    for row in torch.from_numpy(radius[:200]).nonzero()[:40, 0].tolist():
        attacks = network.attack(data.x[[row]], data.y[[row]], radius=float(radius[row]))
        assert attacks.margin.item() > -1e-9
