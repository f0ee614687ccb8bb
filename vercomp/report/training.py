"""The report of trainings: a page that needs nothing but a browser, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from vercomp.report.epochs_figure import epochs_picture
from vercomp.report.sweep_figures import bounds_picture, sweep_picture, trade_off_picture
from vercomp.report.training_figures import certified_picture
from vercomp.report.training_page import Section, training_page
from vercomp.report.training_run import Run, in_order

__all__ = ["Run", "training_report"]


def training_report(runs: Sequence[Run]) -> dict[str, bytes]:
    """File name → content: ``report.html``, which holds its pictures, and the pictures.

    A run by itself has ``certified.png`` (certified accuracy against radius, a curve a
    checkpointed network) and ``epochs.png``. Several have these numbered by growing γ
    (``certified-1.png``), and over all of them ``sweep.png``, ``bounds.png`` (K_ub and K_lb
    against γ, Figure 1 of the paper) and ``trade-off.png``. What nothing is known about has no
    picture. The same runs give the same bytes.

    Args:
        runs: One or more; finished or not.
    """
    ordered = in_order(runs)
    files: dict[str, bytes] = {}
    if len(ordered) > 1:
        files |= _known(
            {
                "sweep.png": sweep_picture(ordered),
                "bounds.png": bounds_picture(ordered),
                "trade-off.png": trade_off_picture(ordered),
            }
        )
    over_all = dict(files)
    sections = []
    for place, run in enumerate(ordered, 1):
        end = f"-{place}.png" if len(ordered) > 1 else ".png"
        own = _known(
            {f"certified{end}": certified_picture(run), f"epochs{end}": epochs_picture(run)}
        )
        sections.append(Section(run, own))
        files |= own
    return {"report.html": training_page(sections, over_all), **files}


def _known(pictures: dict[str, bytes | None]) -> dict[str, bytes]:
    return {name: content for name, content in pictures.items() if content is not None}
