"""The command line: what it prints, what it writes, and that runs resume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import vercomp
from vercomp import cli
from vercomp.commands import blocks
from vercomp.commands.groups import GROUPS
from vercomp.data import load_data
from vercomp.features import FEATURES

DIGITS = str(Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "digits"
    vercomp.compile(DIGITS).save(folder)
    return folder


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from vercomp.cli import _run; assert _run(['--help']) == 0; "
        "assert _run(['certify', '--help']) == 0; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("compile", "analyze", "show", "certify", "attack"):
        assert command in done.stdout


def test_the_installed_command_has_a_version() -> None:
    command = Path(sys.executable).with_name("vercomp")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("vercomp 0.")
    assert f"(torch {version('torch')}, Python " in done.stdout


def test_the_version_is_said_without_torch() -> None:
    code = (
        "import sys; from vercomp.cli import _run; assert _run(['--version']) == 0; "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command_below_what_it_is_for(run: Run) -> None:
    _, text, _ = run("--help")
    named = [name for _, names in GROUPS for name in names]
    assert sorted(named) == sorted(cli.cli.commands)
    for title, names in GROUPS:
        below = text[text.index(f"{title}:") :].partition("\n\n")[0].splitlines()[1:]
        assert [line.split()[0] for line in below if line[2] != " "] == list(names)
    assert "..." not in text.partition("Options:")[2]
    assert "Other commands" not in text


def test_a_command_without_a_title_comes_last(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(cli.cli.commands, "extra", click.Command("extra", short_help="Something."))
    _, text, _ = run("--help")
    assert text.rstrip().splitlines()[-2:] == ["Other commands:", "  extra  Something."]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    command = str(Path(sys.executable).with_name("vercomp"))
    environment = {**os.environ, "_VERCOMP_COMPLETE": f"{shell}_source"}
    if shell != "bash":  # click asks the shell for its version
        done = subprocess.run([command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert "vercomp" in done.stdout
    environment |= {
        "_VERCOMP_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "vercomp cert" if shell != "fish" else "vercomp",
        "COMP_CWORD": "1" if shell != "fish" else "cert",
    }
    done = subprocess.run([command], capture_output=True, text=True, env=environment)
    assert "certify" in done.stdout


def test_features_are_those_of_the_backend() -> None:
    assert cli.FEATURES == FEATURES  # spelled out in the cli, which must not import torch


def test_compile_writes_a_package_that_certifies(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "digits"
    code, text, _ = run("compile", DIGITS, "--out", out, "--emit", "certify,hessian")
    assert code == 0
    assert text.startswith(f"wrote {out} (")
    assert text.endswith("it can: certify, hessian\n")
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, text, _ = run("compile", DIGITS, "--out", out, "--emit", "certify,hessian")
    assert code == 0
    assert text.startswith(f"unchanged: {out} (")
    assert first == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, text, _ = run("compile", DIGITS, "--out", out)
    assert code == 0
    assert text.startswith(f"wrote {out} (")


CERTIFY_KEYS = {
    "n",
    "clean_accuracy",
    "radius",
    "targets",
    "decide",
    "norm",
    "box",
    "methods",
    "undecided",
    "certified_accuracy",
    "certified_accuracy_runner_up",
    "mean_radius",
    "median_radius",
    "mean_radius_runner_up",
    "exact_fraction",
    "gradient_evaluations_per_pair",
    "gradient_evaluations_max",
    "seconds_per_input",
    "seen_over_radius",
}


def test_file_names_in_capitals_and_lists_with_blanks(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "DIGITS.ONNX"
    shutil.copy(DIGITS, model)
    out = tmp_path / "package"
    code, text, error = run("compile", model, "--out", out, "--emit", "certify, attack")
    assert (code, error) == (0, "")
    assert "it can: certify, attack" in text


def test_certify_json_is_alone_and_agrees_with_the_api(run: Run, package: Path) -> None:
    code, text, _ = run(
        "certify", package, "--data", "digits", "--limit", 60, "--radius", 0.4, "--json", "-"
    )
    assert code == 0
    found = json.loads(text)
    assert set(found) == CERTIFY_KEYS
    data = load_data("digits", (64,), limit=60)
    radius = vercomp.load_package(package).certify(data.x, data.y).radius
    correct = vercomp.load_package(package).certify(data.x, data.y).prediction == data.y
    assert found["n"] == 60
    assert found["targets"] == "all"
    assert found["clean_accuracy"] == pytest.approx(correct.double().mean().item())
    # batches round differently: the same inputs in other blocks agree to a few parts in a million
    assert found["mean_radius"] == pytest.approx(radius[correct].mean().item(), rel=1e-4)
    assert found["median_radius"] == pytest.approx(np.median(radius[correct]), rel=1e-4)
    assert found["certified_accuracy"] == pytest.approx((radius > 0.4).double().mean().item())
    assert found["mean_radius_runner_up"] >= found["mean_radius"]
    assert found["certified_accuracy_runner_up"] >= found["certified_accuracy"]
    assert 1 < found["gradient_evaluations_per_pair"] <= found["gradient_evaluations_max"] <= 30


def test_runner_up_fills_its_own_keys_only(run: Run, package: Path, tmp_path: Path) -> None:
    options = ("certify", package, "--data", "digits", "--limit", 60, "--radius", 0.4)
    out = tmp_path / "run"
    code, text, _ = run(*options, "--targets", "runner-up", "--out", out, "--json", "-")
    assert code == 0
    alone = json.loads(text)
    for key in ("certified_accuracy", "mean_radius", "median_radius", "exact_fraction"):
        assert alone[key] is None
    with np.load(out / "certificates.npz") as arrays:
        assert np.isnan(arrays["radius"]).all()
        assert (arrays["radius_runner_up"] >= 0).all()
    both = json.loads(run(*options, "--json", "-")[1])
    # the same figure, whether all targets are certified beside it or not
    assert both["mean_radius_runner_up"] == pytest.approx(alone["mean_radius_runner_up"], rel=1e-3)
    assert both["certified_accuracy_runner_up"] == alone["certified_accuracy_runner_up"]


def test_decide_gives_the_same_accuracy_for_less(run: Run, package: Path) -> None:
    options = ("certify", package, "--data", "digits", "--radius", 0.4, "--json", "-")
    full, decided = json.loads(run(*options)[1]), json.loads(run(*options, "--decide")[1])
    assert decided["certified_accuracy"] == full["certified_accuracy"]
    assert decided["gradient_evaluations_per_pair"] < full["gradient_evaluations_per_pair"]


def test_certify_without_a_radius_has_no_accuracy(run: Run, package: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    code, text, _ = run("certify", package, "--data", "digits", "--limit", 30, "--json", path)
    assert code == 0
    found = json.loads(path.read_text())
    assert found["radius"] is found["certified_accuracy"] is None
    assert found["certified_accuracy_runner_up"] is None
    for words in ("clean accuracy", "certified accuracy at radius", "mean radius"):
        assert words in text


def test_attack_json_and_arrays(run: Run, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, _ = run(
        *("attack", package, "--data", "digits", "--radius", 0.4, "--limit", 60),
        *("--out", out, "--json", "-"),
    )
    assert code == 0
    found = json.loads(text)
    assert {
        *("n", "clean_accuracy", "radius", "attacked_accuracy"),
        *("exact_fraction", "mean_margin", "mean_lower_bound"),
    } <= set(found)
    certified = json.loads(
        run(
            *("certify", package, "--data", "digits", "--radius", 0.4),
            *("--limit", 60, "--json", "-"),
        )[1]
    )
    assert certified["certified_accuracy"] <= found["attacked_accuracy"] <= found["clean_accuracy"]
    assert found["mean_lower_bound"] <= found["mean_margin"]
    data = load_data("digits", (64,), limit=60)
    with np.load(out / "attacks.npz") as arrays:
        assert set(arrays.files) >= {"point", "margin", "lower_bound", "target", "exact"}
        assert arrays["point"].shape == (60, 64)
        moved = np.linalg.norm(arrays["point"] - data.x.double().numpy(), axis=1)
        assert (moved <= 0.4 * (1 + 1e-12)).all()
        assert found["mean_margin"] == pytest.approx(arrays["margin"].mean())


def test_attack_in_another_norm_and_with_a_budget(run: Run, package: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("attack", package, "--data", "digits", "--radius", 0.05, "--limit", 20)
    found = {}
    for budget in (("--budget", 20), ("--steps", 20, "--restarts", 3)):
        folder = ("--out", out) if budget[0] == "--budget" else ()
        code, text, _ = run(
            *options, "--norm", "linf", "--box", "0,1", *budget, *folder, "--json", "-"
        )
        assert code == 0
        found[budget[0]] = json.loads(text)
    assert found["--budget"]["norm"] == "linf"
    assert found["--budget"]["box"] == [0, 1]
    assert found["--steps"]["attacked_accuracy"] <= found["--budget"]["attacked_accuracy"]
    data = load_data("digits", (64,), limit=20)
    with np.load(out / "attacks.npz") as arrays:
        assert (np.abs(arrays["point"] - data.x.double().numpy()) <= 0.05).all()
        assert arrays["point"].min() >= 0.0
        assert arrays["point"].max() <= 1.0
    code, _, error = run(*options, "--budget", 20, "--restarts", 3)
    assert code == 2
    assert "--budget says how many restarts there are: give one of the two" in error


def test_analyze_shows_layers_bound_and_what_was_found(run: Run, package: Path) -> None:
    code, text, _ = run("analyze", package, "--data", "digits", "--limit", 40)
    assert code == 0
    for words in (
        *("layer", "shape", "activation", "softplus", "share of K", "K_lb", "y \\ t"),
        "40 inputs of digits (Lanczos iterations, a lower bound)",
        "K / K_lb:",
    ):
        assert words in text
    code, text, _ = run("analyze", package, "--data", "digits", "--limit", 40, "--json", "-")
    found = json.loads(text)
    bound, least = np.array(found["K"]), np.array(found["K_lb"], dtype=float)
    known = ~np.isnan(least)
    assert known.sum() >= 50
    assert (least[known] <= bound[known]).all()
    assert found["ratio_mean"] == pytest.approx((bound[known] / least[known]).mean())
    lo, hi = vercomp.load_package(package).curvature()
    np.testing.assert_array_equal(bound, np.maximum(lo.abs().numpy(), hi.abs().numpy()))
    assert [layer["activation"] for layer in found["layers"]] == ["softplus", None]


def test_analyze_takes_eight_inputs_a_class(run: Run, package: Path) -> None:
    found = json.loads(run("analyze", package, "--data", "digits", "--json", "-")[1])
    assert found["inputs"] == 80
    assert all((found["K_lb"][y][t] is None) == (y == t) for y in range(10) for t in range(10))


def test_what_a_model_prints_does_not_reach_the_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "talking_net.py").write_text(
        "import torch\n"
        "print('imported')\n"
        "class Talking(torch.nn.Linear):\n"
        "    input_shape = (4,)\n"
        "    def forward(self, x):\n"
        "        print('called')\n"
        "        return super().forward(x)\n"
        "def make():\n"
        "    print('made')\n"
        "    return Talking(4, 3)\n"
    )
    code, text, error = run("analyze", "talking_net:make", "--json", "-")
    assert code == 0, error
    assert json.loads(text)["classes"] == 3
    assert {"imported", "made", "called"} <= set(error.split())


def test_infinite_radii_are_strings_in_every_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "constant_net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    model = torch.nn.Linear(4, 3)\n"
        "    model.input_shape = (4,)\n"
        "    torch.nn.init.zeros_(model.weight)\n"
        "    model.bias.data = torch.tensor([1.0, 0.0, -1.0])\n"
        "    return model\n"
    )
    np.savez("d.npz", x=np.zeros((2, 4)), y=np.array([0, 1]))
    options = ("certify", "constant_net:make", "--data", "d.npz", "--out", "run", "--json", "-")
    code, text, error = run(*options)
    assert code == 0, error
    assert json.loads(text)["mean_radius"] == "inf"
    assert Path("run/result.json").read_text().split() == text.split()


def test_a_callable_of_the_current_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mynets.py").write_text(
        "import torch\n"
        "def tiny():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(\n"
        "        torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))\n"
        "def shaped():\n"
        "    model = tiny()\n"
        "    model.input_shape = (4,)\n"
        "    return model\n"
    )
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.random((9, 2, 2), dtype=np.float32), y=rng.integers(0, 3, 9))
    options = ("--data", "d.npz", "--json", "-")
    code, text, error = run("certify", "mynets:tiny", *options, "--input-shape", "4")
    assert code == 0, error
    assert error == "note: inputs of d.npz reshaped from (2, 2) to (4,), row-major\n"
    plain = json.loads(text)
    assert json.loads(run("certify", "mynets:shaped", *options)[1])["mean_radius"] == pytest.approx(
        plain["mean_radius"]
    )
    # z(x) with (x − 0) / 0.5 in front: the same network needs half the perturbation
    half = vercomp.compile(sys.modules["mynets"].shaped(), (4,), std=0.5)
    data = load_data("d.npz", (4,), tell=lambda line: None)
    code, text, error = run(
        "certify", "mynets:shaped", *options, "--std", "0.5", "--mean", "0,0,0,0"
    )
    assert code == 0, error
    found = half.certify(data.x, data.y)
    right = found.prediction == data.y
    expected = found.radius[right].mean().item() if right.any() else None
    assert json.loads(text)["mean_radius"] == pytest.approx(expected)


def blockwise(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Blocks of one size, each kept at once."""
    monkeypatch.setattr(blocks, "FIRST", size)
    monkeypatch.setattr(blocks, "KEEP", 0.0)
    monkeypatch.setattr(blocks, "_next_size", lambda current, seconds: size)


def test_a_run_resumes_where_it_was_killed(
    run: Run, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vercomp.commands import certify

    blockwise(monkeypatch, 10)
    original = certify.certificate_arrays
    asked: list[int] = []

    def dying(network: Any, x: Any, *question: Any, **options: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(x))
        return original(network, x, *question, **options)

    options = ("certify", package, "--data", "digits", "--limit", 35, "--out", tmp_path / "run")
    monkeypatch.setattr(certify, "certificate_arrays", dying)
    code, text, error = run(*options)
    assert (code, text) == (130, "")
    assert error.endswith("interrupted\n")
    with np.load(tmp_path / "run" / "certificates.npz") as arrays:
        assert arrays["index"].tolist() == list(range(20))

    asked.clear()
    counting: list[int] = []

    def counted(network: Any, x: Any, *question: Any, **options: Any) -> Any:
        counting.append(len(x))
        return original(network, x, *question, **options)

    monkeypatch.setattr(certify, "certificate_arrays", counted)
    code, resumed, error = run(*options, "--json", "-")
    assert code == 0
    assert "certifying digits: 20 of 35 are there already" in error
    assert counting == [10, 5]
    code, again, _ = run(*options, "--json", "-")
    assert counting == [10, 5]
    assert again == resumed
    fresh = json.loads(run(*options[:-2], "--json", "-")[1])
    for key in ("n", "clean_accuracy", "mean_radius", "median_radius", "mean_radius_runner_up"):
        assert json.loads(resumed)[key] == pytest.approx(fresh[key], rel=1e-6)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["n"] == 35


def test_a_killed_process_leaves_results_that_resume(package: Path, tmp_path: Path) -> None:
    """The real thing: SIGKILL between two writes, then the same command again."""
    code = (
        "import os, signal, sys\n"
        "from vercomp import cli\n"
        "from vercomp.commands import blocks\n"
        "blocks.FIRST = blocks.LARGEST = 10\n"
        "blocks.KEEP = 0.0\n"
        "keep = blocks._Keeper.keep\n"
        "def dying(self, *, soon=False):\n"
        "    keep(self, soon=soon)\n"
        "    if len(self.parts) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "blocks._Keeper.keep = dying\n"
        "cli.main(sys.argv[1:])\n"
    )
    options = ["certify", str(package), "--data", "digits", "--limit", "60"]
    options += ["--out", str(tmp_path / "run"), "--json", "-"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", code, *options], capture_output=True, check=False, env=environment
    )
    assert killed.returncode == -9
    done = subprocess.run(
        [sys.executable, "-m", "vercomp.cli", *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "of 60 are there already" in done.stderr
    assert "certifying digits: 60 of" not in done.stderr
    assert json.loads(done.stdout)["n"] == 60
