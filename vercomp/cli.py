"""The command line: options, exit codes, and one clear line for whatever goes wrong.

Nothing here imports torch, so that ``--help`` answers at once: each command imports its work.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import click

from vercomp.commands.cascade_options import ATTACK, CERTIFY, is_cascade, only
from vercomp.commands.groups import GroupedCommands, print_version
from vercomp.commands.options import (
    box_option,
    columns,
    compare_option,
    csv_option,
    data_option,
    features,
    groups,
    html_option,
    json_option,
    limit_option,
    model_options,
    needed_data_option,
    norm_option,
    numbers,
    positive,
    radius,
    run_option,
    words,
)
from vercomp.commands.smoothing_options import pop_smoothing, refuse_others, smoothing_options
from vercomp.commands.train_options import gathered, recipe_options
from vercomp.errors import InternalError, VercompError
from vercomp.features import FEATURES, METHODS

USER, OURS, INTERRUPTED = 2, 1, 130
GRACE = 10.0  # seconds
LISTED = 8  # lines of a message that are shown
NOT_OURS = {  # what the operating system refuses, wherever a path or a stream led
    errno.EACCES,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}


@click.group(
    cls=GroupedCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the versions of vercomp, torch and Python, and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Compile trained networks into packages that certify and attack.

    MODEL is an ONNX file, the folder of a compiled package, package.module:callable, which returns
    a torch nn.Module, or package.module:Class@FOLDER for a folder of Hugging Face. DATA is a .npz
    file with arrays x and y, 'digits', mnist:FOLDER, fashion-mnist:FOLDER or cifar10:FOLDER (test
    split; ':train' after it gives the other).
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USER)


@cli.command("compile")
@model_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--emit",
    metavar="FEATURES",
    callback=features,
    help=f"What the package shall be able to do, of {','.join(FEATURES)}; everything that the "
    "network allows by default.",
)
def compile_command(**options: Any) -> None:
    """Compile MODEL into a readable, self-contained PyTorch package."""
    from vercomp.commands.compile import run

    run(**options)


@cli.command("cascade")
@click.argument("stages", nargs=-1, required=True)
@click.option(
    "--radius",
    metavar="R",
    callback=radius,
    required=True,
    help="A stage answers if it proves its class within this distance.",
)
@click.option("--norm", metavar="NORM", default="linf", show_default=True, help="Of that distance.")
@box_option
@click.option(
    "--methods",
    metavar="M[,M…]",
    callback=words,
    help="Methods that prove it; by default those that a stage uses by itself.",
)
@click.option(
    "--input-shape",
    metavar="SIZES",
    callback=numbers(int, positive=True),
    help="Shape of one input, for stages that are package.module:callable.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
def cascade_command(**options: Any) -> None:
    """Make a cascade of STAGES: the first that certifies its own class at an input answers.

    STAGES are models or packages; certify and attack take the cascade's folder.
    """
    from vercomp.commands.cascade import run

    run(**options)


@cli.command()
@model_options
@data_option
@limit_option
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the graph with all of it, as one HTML file for a browser.",
)
@json_option
def analyze(**options: Any) -> None:
    """Show layers, norms and curvature bounds of MODEL.

    With --data, also the largest curvature found at given inputs, by Lanczos iterations on exact
    Hessians: eight inputs a class, or the first N (--limit).
    """
    from vercomp.commands.analyze import run

    run(**options)


@cli.command()
@model_options
@click.option(
    "--merged",
    is_flag=True,
    help="As the analyses see it: normalisation in front, affine chains merged.",
)
def show(**options: Any) -> None:
    """Print MODEL as a graph, checked against its source; also one that cannot be analysed.

    What the curvature analyses refuse is marked, with the reason. --mean and --std imply --merged.
    """
    from vercomp.commands.show import run

    run(**options)


@cli.command()
@model_options
@needed_data_option
@norm_option
@box_option
@click.option(
    "--threshold",
    metavar="T",
    type=float,
    help="Ask whether an output stays on its side of T, in the place of the class. The label 1 "
    "says that it is above, 0 below.",
)
@click.option(
    "--deviation",
    metavar="D",
    callback=positive,
    help="Ask how far inputs may move before an output moves by more than D. No labels are needed.",
)
@click.option(
    "--entry",
    metavar="K",
    type=click.IntRange(min=0),
    help="The output that --threshold or --deviation is about, counted from 0.",
)
@click.option(
    "--labels",
    type=click.Choice(["data", "predicted"]),
    default="data",
    show_default=True,
    help="Whose labels shall stay: those of DATA, or the model's own predictions.",
)
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=1,
    help="The label shall stay among the K largest.",
)
@click.option(
    "--groups",
    metavar="C,C[/C,C…]",
    callback=groups,
    help="Classes that count as one: 0,1/2,3 for two groups.",
)
@click.option(
    "--scales",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="How far each feature moves for a radius of 1: a .npy file, or 'scales' of a .npz.",
)
@click.option(
    "--frozen",
    metavar="COLS",
    callback=columns,
    help="Features that do not move, by their places in the flat input: 0,4,7-9.",
)
@click.option(
    "--methods",
    metavar="M[,M…]",
    callback=words,
    help=f"Methods to use, of {', '.join(METHODS)} and those of plugins; by default every one that "
    "can take MODEL, but for those that take long (alpha, quadratic, lipschitz, coap, and local on "
    "networks of more than about 200 units) and the probable coap-projected.",
)
@click.option(
    "--confidence",
    metavar="C",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="The probability with which each certificate of a probable method holds; 0.999 by "
    "default.",
)
@click.option("--jointly", is_flag=True, help="The probability of all certificates together.")
@click.option("--seed", metavar="N", type=int, help="Of a probable method's random numbers.")
@click.option(
    "--timeout",
    metavar="S",
    callback=positive,
    help="Begin nothing new after S seconds; inputs that are left are reported as undecided.",
)
@click.option(
    "--max-memory",
    metavar="GB",
    callback=positive,
    help="Keep working sets so small that about so much memory suffices.",
)
@click.option(
    "--radius", metavar="R", callback=radius, help="Report the accuracy certified at this radius."
)
@click.option("--decide", is_flag=True, help="Only settle whether radii exceed --radius: cheaper.")
@click.option(
    "--targets",
    type=click.Choice(["all", "runner-up"]),
    default="all",
    show_default=True,
    help="All other classes, or the second largest logit alone (no certificate of robustness).",
)
@smoothing_options
@click.option(
    "--left",
    metavar="FILE.npz",
    type=click.Path(path_type=Path),
    help="Of a cascade: write the inputs on which it abstains, to train a next stage on.",
)
@limit_option
@run_option
@compare_option
@html_option
@csv_option
@json_option
def certify(**options: Any) -> None:
    """Prove for each input a radius within which no perturbation changes its class.

    Or, for networks that are no classifiers, within which an output stays on its side of a
    threshold (--threshold), or moves by no more than so much (--deviation).
    """
    if is_cascade(options["model"]):
        from vercomp.commands import certify_cascade

        certify_cascade.run(**only(options, CERTIFY))
        return
    if options.pop("left") is not None:
        raise click.UsageError("--left is for a cascade, which can abstain")
    from vercomp.commands.certify import run
    from vercomp.commands.questions import Asked, Confidence, Scales

    if options["decide"] and options["radius"] is None:
        raise click.UsageError("--decide needs a --radius to decide about")
    names = ("threshold", "deviation", "entry", "top", "groups")
    asked = {name: options.pop(name) for name in names}
    question = Asked(**asked, predicted=options.pop("labels") == "predicted")
    scales = Scales(options.pop("scales"), options.pop("frozen"))
    confidence = Confidence(*(options.pop(name) for name in ("confidence", "jointly", "seed")))
    sampling = pop_smoothing(options)
    if sampling is None:
        run(question=question, scales=scales, confidence=confidence, **options)
        return
    refuse_others({**options, "question": question, "scales": scales})
    for name in ("norm", "box", "targets", "decide", "methods"):
        options.pop(name)
    from vercomp.commands import certify_smoothed

    certify_smoothed.run(sampling=sampling, confidence=confidence, **options)


@cli.command()
@model_options
@needed_data_option
@click.option(
    "--radius",
    metavar="R",
    callback=radius,
    required=True,
    help="Of the ball around each input.",
)
@norm_option
@box_option
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(min=1),
    help="Gradients a run of the search takes; 60 by default.",
)
@click.option(
    "--restarts",
    metavar="N",
    type=click.IntRange(min=1),
    help="Runs of the search, each from another start; 8 by default.",
)
@click.option(
    "--budget",
    metavar="N",
    type=click.IntRange(min=1),
    help="Gradients an input, in the place of --restarts: as many runs as that allows.",
)
@limit_option
@run_option
@compare_option
@html_option
@csv_option
@json_option
def attack(**options: Any) -> None:
    """Find the worst perturbation of each input in a ball, and prove how bad any can be.

    Inputs on which the proof and the perturbation meet need no search. On the others, each run is a
    projected gradient descent; an input that is broken is searched no further.
    """
    if is_cascade(options["model"]):
        from vercomp.commands import attack_cascade

        attack_cascade.run(**only(options, ATTACK))
        return
    from vercomp.commands.attack import run

    if options["budget"] is not None and options["restarts"] is not None:
        raise click.UsageError("--budget says how many restarts there are: give one of the two")
    run(**options)


@cli.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, type=click.Path(path_type=Path))
@html_option
@csv_option
@json_option
def compare(**options: Any) -> None:
    """Show finished runs beside each other: what became better, and what worse.

    RUN is a folder that certify or attack has written with --out, or the .npz file in it. The first
    is what the others are compared with.
    """
    from vercomp.commands.compare import run

    run(**options)


@cli.command()
@model_options
@needed_data_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the training; one there resumes.",
)
@recipe_options
@limit_option
@json_option
def train(**options: Any) -> None:
    """Train MODEL so that its certificates grow, and keep the network that has the best.

    MODEL may also be an architecture for the data: mlp:1024,1024:softplus, or
    convolutional:16x5s2,32x3s2:softplus:256 (channels x kernel s stride, then dense layers). A
    package or an ONNX file is trained further. DATA is a training split (mnist:FOLDER:train); a
    part of it is held out to select by. Several processes: torchrun -m vercomp train ...
    """
    from vercomp.commands.train import run

    run(**gathered(options))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the user's mistake, 1 ours, 130 interrupted."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        result = cli.main(args=arguments, prog_name="vercomp", standalone_mode=False)
    except click.ClickException as error:
        if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first says it, and
            time.sleep(GRACE)  # torchrun ends the others
        return _complain(f"error: {_one_line(error.format_message())}{_hint(error)}", USER)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", INTERRUPTED)
    except InternalError as error:
        return _ours(error)
    except VercompError as error:
        return _complain(f"error: {_one_line_each(str(error))}", USER)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NOT_OURS:
            where = f"at {error.filename}: " if error.filename else ""
            return _complain(f"error: {_one_line(f'{where}{error.strerror}')}", USER)
        return _ours(error)
    return result if isinstance(result, int) else 0


def _ours(error: Exception) -> int:
    if os.environ.get("VERCOMP_DEBUG") == "1":
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {_one_line(str(error))}"
    return _complain(f"internal error: {what}; please report (VERCOMP_DEBUG=1 shows where)", OURS)


def _hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (try '{context.command_path} --help')" if context is not None else ""


def _one_line_each(text: str) -> str:
    """A list of nodes, indented between its head and the remedy, with one line for each of them."""
    lines = text.splitlines()
    items = [place for place, line in enumerate(lines) if line.startswith("  ")]
    if not items or items[0] == 0:
        return _one_line(text)
    first, last = items[0], items[-1] + 1
    listed = [f"  {_one_line(line)}" for line in lines[first:last]]
    around = [_one_line("\n".join(part)) for part in (lines[:first], lines[last:])]
    return "\n".join(line for line in (around[0], *listed, around[1]) if line)


def _one_line(text: str) -> str:
    """Text on one line: names from outside may hold anything, and lists of nodes may be long."""
    lines = [
        " ".join("".join(c if c.isprintable() else " " for c in line).split())
        for line in text.splitlines()
    ]
    lines = [line for line in lines if line]
    if len(lines) > LISTED:  # the head, the first few, and the remedy at the end
        left_out = len(lines) - LISTED + 1
        lines = [*lines[: LISTED - 2], f"and {left_out} more", lines[-1]]
    joined = "".join(line + (" " if line.endswith(":") else "; ") for line in lines)
    return joined.rstrip("; ")


def _complain(line: str, code: int) -> int:
    click.echo(line, err=True)
    return code


if __name__ == "__main__":
    main()
