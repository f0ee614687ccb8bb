"""Summaries, tables and pictures, on arrays small enough to check by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vercomp
from vercomp.report.picture import certified_accuracy_picture, curve
from vercomp.report.tables import number, pair_table, percent, show
from vercomp.results.curves import round_radii
from vercomp.results.sampled_curvature import first_of_each_class, sampled_curvature
from vercomp.results.summaries import attack_summary, certificate_summary, to_json

INF = float("inf")
ARRAYS = {
    "label": np.array([0, 1, 2, 0, 1]),
    "prediction": np.array([0, 1, 2, 0, 2]),
    "radius": np.array([0.5, 1.0, 2.0, 0.1, 0.0]),
    "radius_runner_up": np.array([0.7, 1.0, 2.5, 0.2, 0.0]),
    "exact": np.array([True, True, False, False, True]),
    "evaluations": np.array([[0, 1, 5], [1, 0, 1], [9, 1, 0], [0, 1, 1], [1, 0, 1]]),
    "seconds": np.array([0.1, 0.1, 0.2, 0.2, 0.4]),
    "method": np.array(["curvature", "interval", "curvature", "curvature", "curvature"]),
}


def test_certificates_by_hand() -> None:
    assert certificate_summary(ARRAYS, radius=0.5, targets="all") == {
        "n": 5,
        "clean_accuracy": 0.8,
        "radius": 0.5,
        "targets": "all",
        "decide": False,
        "norm": "l2",
        "box": None,
        "methods": {"curvature": 0.6, "interval": 0.2},
        "undecided": 0,
        "certified_accuracy": 0.4,  # 0.5 does not exceed 0.5
        "certified_accuracy_runner_up": pytest.approx(0.6),
        "mean_radius": pytest.approx(0.9),
        "median_radius": 0.75,
        "mean_radius_runner_up": pytest.approx(1.1),
        "exact_fraction": 0.5,  # of the four that are classified correctly
        "gradient_evaluations_per_pair": 7.0,  # 5 and 9: the others never entered the dual
        "gradient_evaluations_max": 9,
        "seconds_per_input": pytest.approx(0.2),
    }


def test_nothing_is_said_where_nothing_is_known() -> None:
    wrong = {**ARRAYS, "prediction": np.array([1, 2, 0, 1, 2])}
    wrong["evaluations"] = np.ones((5, 3), dtype=int)
    found = certificate_summary(wrong, radius=None, targets="all")
    for key in (
        *("radius", "certified_accuracy", "certified_accuracy_runner_up", "mean_radius"),
        *("median_radius", "mean_radius_runner_up", "gradient_evaluations_per_pair"),
    ):
        assert found[key] is None
    assert found["clean_accuracy"] == 0


def test_infinite_radii_are_the_string_inf() -> None:
    endless = {**ARRAYS, "radius": np.array([0.5, INF, INF, INF, 0.0])}
    text = to_json(certificate_summary(endless, radius=1.0, targets="all"))
    found = json.loads(text)
    assert found["mean_radius"] == found["median_radius"] == "inf"
    assert found["certified_accuracy"] == 0.6
    assert json.loads(to_json({"a": [-INF, float("nan"), 1.5, (None, True)]})) == {
        "a": ["-inf", None, 1.5, [None, True]]
    }


def test_attacks_by_hand() -> None:
    arrays = {
        **ARRAYS,
        "margin": np.array([0.5, -0.1, 1.0, 0.2, -2.0]),
        "lower_bound": np.array([0.5, -0.2, 0.9, -0.1, -2.0]),
    }
    found = attack_summary(arrays, radius=0.3)
    assert found["attacked_accuracy"] == pytest.approx(0.6)
    assert found["certified_accuracy"] == 0.4
    assert found["mean_margin"] == pytest.approx(-0.08)
    assert found["mean_lower_bound"] == pytest.approx(-0.18)
    assert found["exact_fraction"] == 0.6


def test_the_curve_is_the_certified_accuracy_at_every_radius() -> None:
    endless = {**ARRAYS, "radius": np.array([0.5, INF, 2.0, 0.1, 0.9])}
    radii, share = curve(endless)
    for radius in (0.0, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0):
        step = share[np.searchsorted(radii, radius, side="right") - 1]
        # the last input is misclassified: whatever its radius says, it is certified for nothing
        expected = np.mean(np.array([0.5, INF, 2.0, 0.1, 0.0]) > radius)
        assert step == expected


def test_the_picture_is_a_picture() -> None:
    png = certified_accuracy_picture(ARRAYS, "five inputs", attacked=[(0.5, 0.6), (1.0, 0.4)])
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.size[0] > 600
    colors = {color for _, color in image.getcolors(maxcolors=1 << 24)}
    assert (31, 119, 180) in colors  # the certified curve
    assert (214, 39, 40) in colors  # the attack
    assert png == certified_accuracy_picture(
        ARRAYS, "five inputs", attacked=[(0.5, 0.6), (1.0, 0.4)]
    )


def test_numbers_and_shares() -> None:
    assert [number(v) for v in (1.0, 0.123456, INF, -INF, None, float("nan"))] == [
        *("1", "0.1235", "∞", "−∞", "–", "–")
    ]
    assert percent(0.98765) == "98.77 %"
    assert percent(None) == "–"


@pytest.mark.parametrize("largest", [0.003, 0.7, 1.0, 9.0, 123.0])
def test_round_radii_cover_and_are_round(largest: float) -> None:
    radii = round_radii(np.linspace(0, largest, 1000))
    assert len(radii) == 5
    assert largest / 4 < radii[-1] <= largest
    assert all(len(f"{r:g}".replace("0", "").replace(".", "")) <= 2 for r in radii)
    assert round_radii(np.array([0.0, INF])) == []


def test_pairs_are_a_matrix_or_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    show(pair_table(np.array([[0.0, 1.5], [2.25, 0.0]]), "K"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if "·" in line] == [
        ["0", "·", "1.50"],
        ["1", "2.25", "·"],
    ]
    assert all(line == line.rstrip() for line in lines)
    many = np.arange(121.0).reshape(11, 11)
    assert pair_table(many, "K") == "K: 110 pairs, smallest 1, median 60, largest 119"
    assert pair_table(np.full((11, 11), np.nan), "K") == "K: nothing known"


def test_a_title_wider_than_its_table_stays_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    title = "K: no input has |curvature| of z_y − z_t above it"
    show(pair_table(np.zeros((2, 2)), title))
    assert capsys.readouterr().out.startswith(f"{title}\n\n")


def test_titles_from_outside_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show(pair_table(np.zeros((2, 2)), "[bold]x[/bold] :smile:"))
    assert "[bold]x[/bold] :smile:" in capsys.readouterr().out


def test_first_rows_of_each_class() -> None:
    y = torch.tensor([2, 0, 0, 2, 0, 1, 2])
    assert first_of_each_class(y, 2).tolist() == [0, 1, 2, 3, 5]


def test_sampled_curvature_is_the_largest_eigenvalue_of_autograd_hessians() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 5), nn.Sigmoid(), nn.Linear(5, 3)
    )
    x, y = torch.rand(6, 3), torch.tensor([0, 0, 1, 1, 1, 0])
    network = vercomp.compile(model, input_shape=(3,))
    found = sampled_curvature(network, x, y)
    exact = model.double().requires_grad_(False)
    assert torch.isnan(found.diagonal()).all()
    assert torch.isnan(found[2]).all()  # no input of class 2
    for label, target in ((0, 1), (0, 2), (1, 0), (1, 2)):
        largest = 0.0
        for point in x[y == label].double():
            hessian = torch.func.hessian(lambda p: exact(p)[label] - exact(p)[target])(point)  # noqa: B023
            largest = max(largest, float(torch.linalg.eigvalsh(hessian).abs().max()))
        assert found[label, target].item() <= largest * (1 + 1e-12)
        assert found[label, target].item() == pytest.approx(largest, rel=2e-2)
    lo, hi = network.curvature()
    bound = torch.maximum(lo.abs(), hi.abs())
    known = ~torch.isnan(found)
    assert (found[known] <= bound[known]).all()


def test_many_classes_look_at_the_runner_up_only() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 12))
    x = torch.rand(5, 3)
    y = torch.arange(5)
    found = sampled_curvature(vercomp.compile(model, input_shape=(3,)), x, y)
    runner_up = model(x).detach().scatter(1, y[:, None], -INF).argmax(1)
    assert (~torch.isnan(found)).nonzero().tolist() == [
        [label, int(runner_up[label])] for label in range(5)
    ]


def test_the_committed_classifier_is_small() -> None:
    root = Path(__file__).parent.parent.parent
    assert (root / "examples" / "digits" / "digits.onnx").stat().st_size < 100_000
