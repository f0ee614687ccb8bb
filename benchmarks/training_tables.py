"""Tables of trained networks beside the published figures, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from benchmarks.published import CIFAR, FASHION, MNIST, PUBLISHED, Published
from vercomp.train.methods import METHODS

DASH = "–"
TITLES = {MNIST: "MNIST", FASHION: "Fashion-MNIST", CIFAR: "CIFAR-10"}
RUNNER_UP = "runner-up only"
PENALISED = ("penalty", "crt", "dual")


class Result(TypedDict, total=False):
    """A trained network on the whole test set; what was not measured is None or left out.

    Accuracies and fractions are shares. ``layers`` are weight layers; ``certified`` is over all
    targets at ``radius``, ``pgd`` what an attack leaves there, an upper bound of it. What ends in
    ``runner_up`` looks at one other class, as the paper does.
    """

    name: str
    layers: int | None
    activation: str
    dataset: str
    method: str
    penalty: float
    radius: float
    clean: float | None
    certified: float | None
    certified_runner_up: float | None
    pgd: float | None
    mean_radius: float | None
    exact_certificates: float | None
    exact_attacks: float | None
    K_lb: float | None
    K_ub: float | None
    seconds_training: float | None
    seconds_certification: float | None
    epochs: int
    seed: int


def counterpart(result: Result, column: str) -> Published | None:
    """The published row of the same network, training and radius that has a value in a column.

    Of several the one of the last table, which has most columns. Training with γ = 0 and without
    attacks is plain training, whatever a table calls it; ``dual`` stands beside CRT.
    """
    for row in reversed(PUBLISHED):
        same_network = (row.layers, row.activation) == (result.get("layers"), result["activation"])
        if (
            same_network
            and _setting(row) == _setting_of(result)
            and _kind(row.method, row.penalty) == _kind(result["method"], _penalty(result))
            and getattr(row, column) is not None
        ):
            return row
    return None


def best_published(dataset: str, radius: float, layers: int | None) -> Published | None:
    """The published row with the largest certified accuracy of the paper's own trainings.

    Args:
        dataset: Which data.
        radius: ρ.
        layers: Of networks with so many; None: of any.
    """
    rows = [
        row
        for row in reversed(PUBLISHED)
        if _setting(row) == (dataset, radius)
        and layers in (None, row.layers)
        and row.runner_up_only
        and row.certified is not None
    ]
    return max(rows, key=lambda row: row.certified or 0.0, default=None)


def tables(results: Sequence[Result]) -> str:
    """All tables that there is something to say in, under headings of the third level."""
    parts = []
    for dataset, radius in sorted({_setting_of(result) for result in results}):
        chosen = [result for result in results if _setting_of(result) == (dataset, radius)]
        title = f"{TITLES.get(dataset, dataset)}, l2 radius {radius:g}"
        sections = (
            ("certified accuracy", accuracy_table(chosen)),
            ("provably exact certificates and attacks", exactness_table(chosen)),
            ("curvature bounds", curvature_table(chosen)),
            ("other methods, as published", others_table(dataset, radius)),
        )
        parts += [f"### {title}: {what}\n\n{table}" for what, table in sections if table]
    return "\n".join(parts)


def accuracy_table(results: Sequence[Result]) -> str:
    """Clean and certified accuracy, with what PGD leaves, beside the published figures.

    Certified accuracy is over all targets. The published one, and ours in the column named after
    it, looks at the runner-up alone. The last published column is the best of the paper's rows of
    that depth, whatever activation and penalty (of any depth for a network that has none).
    """
    head = (
        "network",
        "training",
        "clean",
        "certified, all targets",
        "PGD leaves",
        f"certified, {RUNNER_UP}",
        "mean radius",
        "published clean",
        f"published certified, {RUNNER_UP}",
        f"best published of that depth, {RUNNER_UP}",
        "training, s",
        "certifying, s",
        "epochs",
        "seed",
    )
    rows = []
    for result in _ordered(results):
        same = counterpart(result, "certified")
        best = best_published(*_setting_of(result), result.get("layers"))
        rows.append(
            (
                *_names(result),
                _share(result.get("clean")),
                _share(result.get("certified"), bold=True),
                _share(result.get("pgd")),
                _share(result.get("certified_runner_up")),
                _plain(result.get("mean_radius"), ".3f"),
                _percent(same, "clean"),
                _percent(same, "certified"),
                DASH if best is None else f"{best.certified:.2f} % ({_training(best)})",
                _plain(result.get("seconds_training"), ",.0f"),
                _plain(result.get("seconds_certification"), ",.0f"),
                _plain(result.get("epochs"), "d"),
                _plain(result.get("seed"), "d"),
            )
        )
    return markdown(head, rows)


def exactness_table(results: Sequence[Result]) -> str:
    """Fractions of inputs with provably exact certificates and attacks (Table 2).

    Ours are against every class, the published ones against the runner-up.
    """
    chosen = [
        result
        for result in results
        if _some(result.get("exact_certificates"), result.get("exact_attacks"))
    ]
    head = (
        "network",
        "training",
        "clean",
        "exact certificates, all targets",
        f"published certificate success, {RUNNER_UP}",
        "exact attacks, all targets",
        f"published attack success, {RUNNER_UP}",
        "published clean",
    )
    rows = []
    for result in _ordered(chosen):
        same = counterpart(result, "certificate_success")
        rows.append(
            (
                *_names(result),
                _share(result.get("clean")),
                _share(result.get("exact_certificates")),
                _percent(same, "certificate_success"),
                _share(result.get("exact_attacks")),
                _percent(same, "attack_success"),
                _percent(same, "clean"),
            )
        )
    return markdown(head, rows)


def curvature_table(results: Sequence[Result]) -> str:
    """K_ub, K_lb and their ratio (Table 10)."""
    chosen = [result for result in results if _some(result.get("K_lb"), result.get("K_ub"))]
    head = (
        "network",
        "training",
        "K_lb",
        "K_ub",
        "K_ub / K_lb",
        f"published K_lb, {RUNNER_UP}",
        f"published K_ub, {RUNNER_UP}",
        "published K_ub / K_lb",
    )
    rows = []
    for result in _ordered(chosen):
        same = counterpart(result, "k_ub")
        lower, upper = result.get("K_lb"), result.get("K_ub")
        theirs = (None, None) if same is None else (same.k_lb, same.k_ub)
        rows.append(
            (
                *_names(result),
                _plain(lower, ",.4g"),
                _plain(upper, ",.4g"),
                _ratio(lower, upper),
                *(_printed(bound) for bound in theirs),
                _ratio(*theirs),
            )
        )
    return markdown(head, rows)


def others_table(dataset: str, radius: float) -> str:
    """Other methods' figures as the paper has them: interval bounds, randomized smoothing."""
    rows = [row for row in PUBLISHED if _setting(row) == (dataset, radius)]
    others = [row for row in rows if not row.runner_up_only]
    unique = dict.fromkeys(
        (
            f"{row.layers} × 1024 {row.activation}",
            row.method,
            _percent(row, "clean"),
            _percent(row, "certified")
            + (" (probable, two classes)" if row.method.startswith("smoothing") else ""),
        )
        for row in others
    )
    return markdown(("network", "method", "clean", "certified"), list(unique))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing where it has no rows."""
    if not rows:
        return ""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _setting(row: Published) -> tuple[str, float]:
    return row.dataset, row.radius


def _setting_of(result: Result) -> tuple[str, float]:
    return result["dataset"], result["radius"]


def _kind(method: str, penalty: float | None) -> tuple[str, float]:
    if method == "penalty" and not penalty:
        return "plain", 0.0
    return ("crt" if method == "dual" else method), penalty or 0.0


def _penalty(result: Result) -> float:
    """γ, of trainings that have one."""
    return result.get("penalty", 0.0) if result["method"] in PENALISED else 0.0


def _ordered(results: Iterable[Result]) -> list[Result]:
    """By depth, activation, method and γ."""

    def key(result: Result) -> tuple[int, str, int, float]:
        depth = result.get("layers") or 99
        return depth, result["activation"], list(METHODS).index(result["method"]), _penalty(result)

    return sorted(results, key=key)


def _names(result: Result) -> tuple[str, str]:
    method, penalty = result["method"], _penalty(result)
    training = f"{method}, γ = {penalty:g}" if method in PENALISED else method
    return f"{result['name']} {result['activation']}", training


def _training(row: Published) -> str:
    gamma = "" if row.penalty is None else f", γ = {row.penalty:g}"
    return f"{row.layers} × 1024 {row.activation}, {row.method}{gamma}"


def _some(*values: object) -> bool:
    return any(value is not None for value in values)


def _share(share: float | None, *, bold: bool = False) -> str:
    if share is None:
        return DASH
    text = f"{100 * share:.2f} %"
    return f"**{text}**" if bold else text


def _percent(row: Published | None, column: str) -> str:
    value = None if row is None else getattr(row, column)
    return DASH if value is None else f"{value:.2f} %"


def _plain(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def _printed(value: float | None) -> str:
    """As the paper has it: four decimals, if there are as many."""
    return DASH if value is None else f"{value:,.4f}".rstrip("0").rstrip(".")


def _ratio(lower: float | None, upper: float | None) -> str:
    if not lower or upper is None:
        return DASH
    ratio = upper / lower
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
