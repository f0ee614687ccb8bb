"""The tables of trained networks: published figures as printed, ours beside the right ones."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks.published import FASHION, MNIST, PUBLISHED, TABLES, Published
from benchmarks.training_tables import (
    Result,
    accuracy_table,
    best_published,
    counterpart,
    curvature_table,
    exactness_table,
    markdown,
    others_table,
    tables,
)


def result(**values: object) -> Result:
    base: Result = {
        "name": "2 × 1024",
        "layers": 2,
        "activation": "sigmoid",
        "dataset": MNIST,
        "method": "crt",
        "penalty": 0.01,
        "radius": 0.5,
        "clean": 0.9857,
        "certified": 0.96,
        "certified_runner_up": 0.961,
        "pgd": 0.9625,
        "mean_radius": 1.6,
        "exact_certificates": 0.5,
        "exact_attacks": 1.0,
        "K_lb": 2.0,
        "K_ub": 5.0,
        "seconds_training": 1234.5,
        "seconds_certification": 60.0,
        "epochs": 20,
        "seed": 3,
    }
    return {**base, **values}  # type: ignore[typeddict-item]


def rows(table: str) -> list[dict[str, str]]:
    """A Markdown table's rows by heading; every line has as many cells as the head."""
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()
    ]
    head, rule, *body = cells
    assert set("".join(rule)) == {"-", ":"}
    return [dict(zip(head, line, strict=True)) for line in body]


def one(table: str) -> Published:
    (row,) = (row for row in PUBLISHED if row.table == table and row.penalty == 0.07)
    return row


def test_rows_of_the_published_tables() -> None:
    count = Counter(row.table for row in PUBLISHED)
    main = [count[f"main Table {place}"] for place in range(2, 7)]
    appendix = [count[f"appendix Table {place}"] for place in (2, 3, 4, 5, 6, 7, 8, 10, 11)]
    assert main == [6, 12, 12, 9, 4]
    assert appendix == [12, 9, 17, 24, 14, 6, 18, 38, 38]
    assert count.total() == sum(main) + sum(appendix)
    assert one("main Table 3") == Published(
        "main Table 3", MNIST, 1.58, 4, "softplus", "crt", 0.07, clean=95.60, certified=53.19
    )


def test_published_figures_are_possible() -> None:
    for row in PUBLISHED:
        assert row.layers in (2, 3, 4)
        assert (row.penalty is not None) == (row.method in ("crt", "penalty"))
        if row.certified is not None and row.clean is not None:
            assert row.certified <= row.clean
        if row.certified is not None and row.empirical is not None:
            assert row.certified <= row.empirical <= (row.clean or 100)
        if row.k_ub is not None:
            assert 0 < (row.k_lb or 0) < row.k_ub


def test_tables_that_print_the_same_rows_agree() -> None:
    """Where two tables have the same network and column, but for what the module says of them."""
    seen: dict[tuple[object, ...], dict[str, float]] = {}
    for row in PUBLISHED:
        method = "plain" if row.method == "penalty" and not row.penalty else row.method
        key = (row.dataset, row.radius, row.layers, row.activation, method, row.penalty or 0.0)
        for column in ("clean", "empirical", "certified", "crown"):
            value = getattr(row, column)
            if value is not None:
                seen.setdefault((*key, column), {})[row.table] = value
    different = [key[2:] for key, values in seen.items() if len(set(values.values())) > 1]
    sigmoid = [(4, "sigmoid", "crt", gamma, "clean") for gamma in (0.01, 0.03, 0.05, 0.07)]
    assert sorted(different) == sorted(
        [*sigmoid, (2, "sigmoid", "crt", 0.01, "certified"), (3, "sigmoid", "crt", 0.01, "clean")]
    )


def test_a_table_is_read_line_by_line() -> None:
    (table,) = (table for table in TABLES if table.name == "appendix Table 5")
    first = next(table.rows())
    assert (first.method, first.certified, first.penalty, first.clean) == (
        *("smoothing 0.25", 93.75),
        *(None, None),
    )


def test_the_published_row_of_the_same_training() -> None:
    found = counterpart(result(), "certified")
    assert found is not None
    assert (found.table, found.certified) == ("appendix Table 10", 95.59)
    assert counterpart(result(penalty=0.011), "certified") is None
    assert counterpart(result(radius=1.58), "certified") is None
    assert counterpart(result(layers=None), "certified") is None
    pgd = counterpart(result(method="pgd"), "certified")  # its penalty has no part in it
    assert pgd is not None
    assert pgd.certified == 93.37


@pytest.mark.parametrize("method", ["plain", "penalty"])
def test_no_penalty_and_no_attack_is_plain(method: str) -> None:
    found = counterpart(result(method=method, penalty=0.0, activation="tanh"), "certified")
    assert found is not None
    assert found.certified == 14.42


def test_the_best_published_figure_is_one_of_the_papers_own() -> None:
    best = best_published(FASHION, 1.58, None)
    assert best is not None
    assert (best.certified, best.layers, best.method) == (54.39, 2, "crt")
    best = best_published(MNIST, 0.5, 4)
    assert best is not None
    assert (best.certified, best.penalty, best.activation) == (93.41, 0.01, "sigmoid")
    assert best_published(MNIST, 0.7, 4) is None


def test_accuracies_beside_the_published() -> None:
    (row,) = rows(accuracy_table([result()]))
    assert row == {
        "network": "2 × 1024 sigmoid",
        "training": "crt, γ = 0.01",
        "clean": "98.57 %",
        "certified, all targets": "**96.00 %**",
        "PGD leaves": "96.25 %",
        "certified, runner-up only": "96.10 %",
        "mean radius": "1.600",
        "published clean": "98.57 %",
        "published certified, runner-up only": "95.59 %",
        "best published of that depth, runner-up only": (
            "95.61 % (2 × 1024 sigmoid, crt, γ = 0.005)"
        ),
        "training, s": "1,234",
        "certifying, s": "60",
        "epochs": "20",
        "seed": "3",
    }


def test_exactness_beside_the_published() -> None:
    (row,) = rows(exactness_table([result(), result(exact_certificates=None, exact_attacks=None)]))
    assert row["exact certificates, all targets"] == "50.00 %"
    assert row["exact attacks, all targets"] == "100.00 %"
    assert row["published certificate success, runner-up only"] == "15.68 %"
    assert row["published attack success, runner-up only"] == "100.00 %"


def test_curvature_beside_the_published() -> None:
    deep = result(layers=4, activation="tanh", penalty=0.0, K_lb=0.0)
    shallow, broken = rows(curvature_table([deep, result()]))
    assert shallow["K_ub / K_lb"] == "2.5"
    assert shallow["published K_ub / K_lb"] == "1.95"  # 5.4873 / 2.8196
    assert broken["K_ub / K_lb"] == "–"
    assert broken["published K_ub, runner-up only"] == "37,148,156"
    assert broken["published K_ub / K_lb"] == "40,657"


def test_the_papers_figures_are_called_what_they_are() -> None:
    for table in (accuracy_table, exactness_table, curvature_table):
        (row,) = rows(table([result()]))
        for heading in row:
            if heading.startswith("published") and "clean" not in heading:
                assert "runner-up only" in heading or "/" in heading


def test_other_methods_are_listed_once() -> None:
    found = rows(others_table(MNIST, 1.58))
    assert len(found) == 9  # main Table 3 and appendix Table 4 print the same
    assert {row["method"] for row in found} == {"coap", "crown-ibp"}
    smoothing = [row for row in rows(others_table(MNIST, 0.5)) if "smoothing" in row["method"]]
    assert len(smoothing) == 18
    assert all(row["certified"].endswith("(probable, two classes)") for row in smoothing)


def test_all_tables_under_headings_in_order() -> None:
    bare: Result = {
        "name": "conv | 5",
        "layers": None,
        "activation": "softplus",
        "dataset": MNIST,
        "method": "crt",
        "penalty": 0.02,
        "radius": 1.58,
    }
    text = tables([result(), bare, result(method="plain")])
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == [
        "### MNIST, l2 radius 0.5: certified accuracy",
        "### MNIST, l2 radius 0.5: provably exact certificates and attacks",
        "### MNIST, l2 radius 0.5: curvature bounds",
        "### MNIST, l2 radius 0.5: other methods, as published",
        "### MNIST, l2 radius 1.58: certified accuracy",
        "### MNIST, l2 radius 1.58: other methods, as published",
    ]
    first = text.split("\n\n")[1]
    assert [row["training"] for row in rows(first)] == ["plain", "crt, γ = 0.01"]
    (row,) = rows(accuracy_table([bare]))
    assert row["network"] == "conv \\| 5 softplus"
    assert row["best published of that depth, runner-up only"].startswith("69.79 % (2 × 1024")
    assert row["certified, all targets"] == row["seed"] == "–"
    assert tables([]) == markdown(("a",), []) == ""
