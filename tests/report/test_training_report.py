"""The report of trainings: right curves, a page that is complete and inert, whatever is missing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from html_reader import Reader
from PIL import Image

from vercomp.report.document import is_report
from vercomp.report.epochs_figure import epochs_picture
from vercomp.report.sweep_figures import bounds_picture, sweep_picture, trade_off_picture
from vercomp.report.training import Run, training_report
from vercomp.report.training_figures import certified_picture, drawable
from vercomp.report.training_run import finite, in_order, labels
from vercomp.results.curves import certified_curve

INF, NAN = float("inf"), float("nan")
HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)> $\\frac{ \u6f22 \x1b[31m"


def row(epoch: int, **values: Any) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "loss": 2.0 / epoch,
        "learning_rate": 1e-3,
        "radius": 0.25,
        "penalty": 0.01,
        "clean_accuracy": 0.9,
        "attacked_accuracy": 0.6,
        "curvature": 5.0 / epoch,
        "seconds": 1.5,
        **values,
    }


def evaluated(epoch: int, certified: float, clean: float = 0.9) -> dict[str, Any]:
    return row(
        epoch,
        validation_clean_accuracy=clean,
        validation_certified_accuracy=certified,
        validation_mean_radius=0.7,
        validation_curvature=4.0 / epoch,
    )


def run(penalty: float = 0.01, **values: Any) -> Run:
    rng = np.random.default_rng(0)
    return replace(
        Run(
            f"penalty-{penalty:g}",
            {"method": "crt", "radius": 0.5, "penalty": penalty, "epochs": 4, "seed": 7},
            [row(1), evaluated(2, 0.5), row(3), evaluated(4, 0.4)],
            {2: rng.random(50), 4: rng.random(50)},
            (1.0, 4.0),
            penalty,
            about={"command": "vercomp train mlp:32:softplus"},
        ),
        **values,
    )


def test_certified_accuracy_is_the_share_of_radii_above() -> None:
    rng = np.random.default_rng(1)
    radii = np.concatenate([rng.integers(0, 6, 40) / 4, [INF, 0.0, 0.0, NAN]])
    at, share = certified_curve(radii)
    assert at[0] == 0
    assert (np.diff(at) > 0).all()
    assert (np.diff(share) < 0).all()
    known = np.nan_to_num(radii, nan=0.0, posinf=INF)
    for r in [0.0, 0.1, 0.25, 0.3, 1.0, 1.25, 2.0, 1e9]:
        step = np.searchsorted(at, r, side="right") - 1
        assert share[step] == sum(value > r for value in known) / len(radii), r


@pytest.mark.parametrize(
    ("radii", "at", "share"),
    [([0.0, 0.0], [0.0], [0.0]), ([INF], [0.0], [1.0]), ([], [0.0], [0.0])],
)
def test_curves_without_steps(radii: list[float], at: list[float], share: list[float]) -> None:
    found = certified_curve(np.array(radii))
    assert [list(part) for part in found] == [at, share]


def test_the_best_network_is_the_first_with_the_largest_certified_accuracy() -> None:
    history = [evaluated(1, 0.3), evaluated(2, 0.5), evaluated(3, 0.5), evaluated(4, NAN)]
    assert run(history=history).best == 2
    assert run(history=history, selected=3).best == 3
    assert run(history=[row(1)]).best == 4  # radii are known of the fourth
    assert run(history=[row(1)], radii={}).best is None


def test_rows_that_do_not_say_their_epoch_are_counted() -> None:
    found = run(history=[{"loss": 3.0}, {"loss": NAN}, {"loss": 1.0, "epoch": 3}, {"loss": "inf"}])
    assert found.series("loss") == [(1, 3.0), (3, 1.0)]
    assert found.seconds is None
    assert run().seconds == 6.0


def test_only_finite_numbers_are_numbers() -> None:
    assert [finite(value) for value in (1, 0.5, np.float32(2), NAN, INF, None, "1")] == [
        *(1.0, 0.5, 2.0),
        *(None, None, None, None),
    ]


def test_runs_are_called_by_their_penalty_where_it_tells_them_apart() -> None:
    runs = in_order([run(0.02), run(0.0)])
    assert labels(runs) == ["γ = 0", "γ = 0.02"]
    assert labels([run(0.01, name="a"), run(0.01, name="b")]) == ["a", "b"]


def test_a_page_holds_its_pictures_and_loads_nothing() -> None:
    files = training_report([run()])
    assert sorted(files) == ["certified.png", "epochs.png", "report.html"]
    page = files["report.html"]
    assert is_report(page)
    reader = Reader(page)
    shown = [image["src"] for image in reader.named("img")]
    prefix = "data:image/png;base64,"
    assert [base64.b64decode(str(source).removeprefix(prefix)) for source in shown] == [
        files["certified.png"],
        files["epochs.png"],
    ]
    assert all(image["alt"] for image in reader.named("img"))
    assert not re.search(r"\w+://", page.decode())
    assert not re.search(r"url\(|@import", page.decode())
    policy = [meta["content"] for meta in reader.named("meta") if meta.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not reader.named("script")


def test_every_run_epoch_and_number_of_the_recipe_is_shown() -> None:
    runs = [run(0.02), run(0.0, bounds=None)]
    files = training_report(runs)
    reader = Reader(files["report.html"])
    for found in runs:
        assert found.name in reader.words
        for key, value in found.recipe.items():
            assert key in reader.words
            assert str(value) in reader.words
    first = reader.words.index("2 trainings")
    assert reader.words.index("penalty-0", first) < reader.words.index("penalty-0.02", first)
    assert [a["id"] for a in reader.named("section")] == ["run-1", "run-2"]
    assert reader.words.count("vercomp train mlp:32:softplus") == 2
    assert reader.words.count("50.00 %") == 4  # in the table over all runs and in the history
    page = files["report.html"].decode()
    rows = re.findall(r'<tr( class="selected")?><th scope="row" class="number">(\d+)</th>', page)
    assert [int(epoch) for _, epoch in rows] == [1, 2, 3, 4] * 2
    assert [int(epoch) for chosen, epoch in rows if chosen] == [2, 2]


def test_a_sweep_has_pictures_over_all_of_it_and_of_each() -> None:
    files = training_report([run(0.02), run(0.0), run(0.01)])
    each = [f"{kind}-{place}.png" for kind in ("certified", "epochs") for place in (1, 2, 3)]
    over_all = ["sweep.png", "bounds.png", "trade-off.png"]
    assert sorted(files) == sorted([*over_all, *each, "report.html"])
    assert len(Reader(files["report.html"]).named("img")) == 9


def test_names_from_outside_are_inert() -> None:
    strange = run(0.1, name=HOSTILE, recipe={HOSTILE: HOSTILE}, about={"command": HOSTILE})
    reader = Reader(training_report([strange, replace(strange, name="b")])["report.html"])
    assert not reader.named("script")
    assert {str(image["src"])[:5] for image in reader.named("img")} == {"data:"}
    for _, attributes in reader.elements:
        assert not any(key.startswith("on") for key in attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    assert any("<script>alert('1')</script>" in cell for cell in reader.words)  # said, not done


def test_letters_without_a_picture_are_replaced() -> None:
    assert drawable("γ\u6f22x\n") == "γ\N{REPLACEMENT CHARACTER}x\N{REPLACEMENT CHARACTER}"


def test_the_same_runs_give_the_same_bytes() -> None:
    files = training_report([run()])
    assert files == training_report([run()])
    with Image.open(io.BytesIO(files["epochs.png"])) as image:
        assert "Software" not in image.info


def test_nothing_known_is_said() -> None:
    files = training_report([Run("nothing", {}, [])])
    assert list(files) == ["report.html"]
    assert "No epoch has ended yet." in Reader(files["report.html"]).words
    begun = Reader(training_report([Run("begun", {"epochs": 9}, [row(1)])])["report.html"])
    assert "No network was evaluated yet." in begun.words
    assert "1 of 9" in begun.words


def test_what_has_no_values_has_no_picture() -> None:
    empty = Run("empty", {}, [{"epoch": 1, "loss": NAN, "curvature": 0.0, "radius": 0.0}])
    for picture in (certified_picture, epochs_picture):
        assert picture(empty) is None
    for over_all in (sweep_picture, bounds_picture, trade_off_picture):
        assert over_all([empty, replace(empty, penalty=1.0)]) is None


def test_curvature_needs_two_networks_whose_bounds_are_positive_numbers() -> None:
    for bounds in (None, (NAN, 1.0), (0.0, 1.0), (1.0, INF)):
        assert bounds_picture([run(0.0), run(0.1, bounds=bounds)]) is None
    assert bounds_picture([run(0.0), run(0.1, bounds=(0.7, 3e7))]) is not None


def test_networks_that_certify_nothing_or_everything() -> None:
    nothing = run(
        history=[evaluated(1, 0.0, 0.0) | {"validation_mean_radius": None, "curvature": NAN}],
        radii={1: np.zeros(3), 2: np.array([])},
    )
    everything = run(0.1, history=[evaluated(1, 1.0, 1.0)], radii={1: np.full(3, INF)})
    files = training_report([nothing, everything])
    assert len(files) == 1 + 3 + 2 + 2
    assert Reader(files["report.html"]).words.count("100.00 %") == 4


def test_a_loss_that_diverged_is_shown() -> None:
    page = training_report([run(history=[row(1, loss=NAN), row(2, loss="inf")])])["report.html"]
    cells = Reader(page).words
    assert "nan" in cells
    assert "inf" in cells
