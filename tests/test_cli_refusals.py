"""The command line fails well: one line, exit 2 for the user's mistake and 1 for ours."""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vercomp
from vercomp import cli
from vercomp.commands import certify as certify_command

DIGITS = str(Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx")
REMEDY = "Give another folder, or remove this one yourself"
FORMS = (
    "an .onnx file, the folder of a compiled package, package.module:callable, or "
    "package.module:Class@FOLDER with its config.json and .safetensors files"
)
Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "digits"
    vercomp.compile(DIGITS).save(folder)
    return folder


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must fail; returns its one line on standard error."""

    def call(*arguments: object, code: int = 2) -> str:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert exit_.value.code == code, captured
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        prefix = "error: " if code == 2 else ""
        assert captured.err.startswith(prefix)
        return captured.err.strip().removeprefix("error: ")

    return call


@pytest.mark.parametrize("radius", ["0", "-1", "nan", "inf", "1e999"])
@pytest.mark.parametrize("command", ["certify", "attack"])
def test_radii(fails: Fails, command: str, radius: str) -> None:
    assert fails(command, DIGITS, "--data", "digits", "--radius", radius) == (
        f"Invalid value for '--radius': a radius must be positive and finite, not {radius} "
        f"(try 'vercomp {command} --help')"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("certify", DIGITS), "Missing option '--data'. (try 'vercomp certify --help')"),
        (("attack", DIGITS, "--data", "digits"), "Missing option '--radius'."),
        (("compile", DIGITS), "Missing option '--out'."),
        (("bake", DIGITS), "No such command 'bake'."),
        (
            ("certify", DIGITS, "--data", "digits", "--radius", "wide"),
            "Invalid value for '--radius': 'wide' is no number",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--decide"),
            "--decide needs a --radius to decide about",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--limit", "0"),
            "Invalid value for '--limit': 0 is not in the range x>=1.",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--std", "0.5,0"),
            "Invalid value for '--std': '0.5,0': every number must be positive",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--methods", ""),
            "Invalid value for '--methods': '' is no list of names separated by commas",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--methods", "interval,"),
            "Invalid value for '--methods': 'interval,' is no list of names separated by commas",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--max-memory", "1e-9"),
            "a limit of memory must be at least 0.005 GB, got 1e-09 GB. Allow at least what",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--mean", "a,b"),
            "Invalid value for '--mean': 'a,b' is no list of numbers",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--mean", "nan"),
            "Invalid value for '--mean': 'nan': every number must be finite",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--input-shape", "1,28.5"),
            "Invalid value for '--input-shape': '1,28.5' is no list of whole numbers",
        ),
        (
            ("certify", DIGITS, "--data", "digits", "--input-shape", "1,0"),
            "Invalid value for '--input-shape': '1,0': every number must be positive",
        ),
        (
            ("compile", DIGITS, "--out", "out", "--emit", "certify,poetry"),
            "Invalid value for '--emit': 'poetry' is none of certify, attack, hessian, regularizer"
            ", crown",
        ),
        (("analyze", DIGITS, "--limit", "3"), "--limit needs --data"),
    ],
)
def test_options(fails: Fails, arguments: tuple[str, ...], message: str) -> None:
    assert fails(*arguments).startswith(message)


def test_models_that_are_none(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "empty").mkdir()
    data = ("--data", "digits")
    for model, message in {
        "nowhere.onnx": "at nowhere.onnx: no such file",
        "nowhere": f"at nowhere: no such file or folder. MODEL is {FORMS}",
        "build/nowhere.pth": f"at build/nowhere.pth: no such file or folder. MODEL is {FORMS}",
        "notes.txt": f"MODEL 'notes.txt' is none of these: {FORMS}",
        "import os:x": f"MODEL 'import os:x' is none of these: {FORMS}",
        "no_such_module_here:f": "module 'no_such_module_here' cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_here'",
        "math:cosine": "module 'math' has no 'cosine'",
        "math:pi": "'math:pi' is a float, not a callable",
        "math:cos": "calling 'math:cos' failed: TypeError: math.cos() takes exactly one argument "
        "(0 given)",
        "builtins:dict": "'builtins:dict' returned a dict, not a torch nn.Module. The callable "
        "takes no arguments and returns the model",
    }.items():
        assert fails("certify", model, *data) == message
    assert fails("certify", "empty", *data).startswith("at empty: not a compiled package")


def test_a_callable_that_does_not_know_its_shape(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "shapeless_net.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Linear(4, 3)\n"
    )
    assert fails("certify", "shapeless_net:make", "--data", "digits") == (
        "MODEL 'shapeless_net:make' does not say what shape its inputs have. Add --input-shape "
        "1,28,28, or give the module an attribute input_shape"
    )


@pytest.mark.parametrize("shape", ["4", "'abc'", "(-4,)", "(4.0,)", "()", "[4, None]"])
def test_a_callable_with_a_shape_that_is_none(fails: Fails, tmp_path: Path, shape: str) -> None:
    (tmp_path / "odd_shape_net.py").write_text(
        f"import torch\nmodel = torch.nn.Linear(4, 3)\nmodel.input_shape = {shape}\n"
    )
    sys.modules.pop("odd_shape_net", None)
    assert fails("certify", "odd_shape_net:model", "--data", "digits") == (
        f"the attribute input_shape of 'odd_shape_net:model' is {shape}, not sizes such as "
        "(1, 28, 28). Say the shape of one input, without the batch, or give --input-shape"
    )


def test_a_callable_that_leaves(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "leaving_net.py").write_text("import sys\ndef make():\n    sys.exit(0)\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    data = ("--data", "digits")
    assert fails("certify", "leaving_net:make", *data) == (
        "calling 'leaving_net:make' failed: SystemExit: 0"
    )
    assert fails("certify", "leaving:make", *data) == (
        "module 'leaving' cannot be imported: SystemExit: 3"
    )


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


def test_pickles_are_never_opened(fails: Fails, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "net.pth")
    (tmp_path / "net.onnx").write_bytes(pickle.dumps(Bomb()))
    with zipfile.ZipFile(tmp_path / "zip.onnx", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    for name in ("net.pth", "net.onnx", "zip.onnx"):
        assert fails("certify", name, "--data", "digits") == (
            f"at {name}: a PyTorch checkpoint or another pickle, which is never unpickled. Export "
            "the model to ONNX, or name a function that builds and loads it: "
            "package.module:callable"
        )
    assert not (tmp_path / "exploded").exists()


def test_data_in_the_place_of_a_model(fails: Fails) -> None:
    np.savez("d.npz", x=np.zeros((2, 64)), y=np.zeros(2, dtype=np.int64))
    assert fails("certify", "d.npz", "--data", "d.npz") == (
        f"at d.npz: a file of arrays, and no model. MODEL is {FORMS}"
    )


def test_every_truncation_of_an_onnx_file(fails: Fails, tmp_path: Path) -> None:
    whole = Path(DIGITS).read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        assert "cut.onnx" in fails("certify", "cut.onnx", "--data", "digits")


def test_options_that_a_package_has_inside(fails: Fails, package: Path) -> None:
    for option in ("--mean", "--std"):
        assert fails("certify", package, "--data", "digits", option, "0.5") == (
            f"at {package}: a compiled package has its normalisation inside, so --mean and --std "
            "do not apply. Compile the source model with them"
        )
    assert fails("certify", package, "--data", "digits", "--input-shape", "1,8,8") == (
        f"at {package}: the package's inputs have shape (64,), not (1, 8, 8)"
    )
    assert fails("compile", package, "--out", "out") == (
        f"at {package}: this is a folder; compile takes a model, not a package"
    )


@pytest.mark.parametrize("changed", ["net.py", "core/methods/dual.py", "core/norms/bounds.py"])
def test_a_package_whose_code_has_changed(
    fails: Fails, package: Path, tmp_path: Path, changed: str
) -> None:
    message = (
        f"at edited: the package's code is not what vercomp wrote: see '{changed}'. Its bounds "
        "hold for the code as it was: compile its source again"
    )
    shutil.copytree(package, "edited")
    source = Path("edited", changed).read_text()
    Path("edited", changed).write_text(source + "\nraise RuntimeError\n")
    assert fails("certify", "edited", "--data", "digits") == message
    Path("edited", changed).unlink()
    assert fails("certify", "edited", "--data", "digits") == message


def test_a_package_whose_weights_do_not_fit(fails: Fails, package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, "torn")
    weights = Path("torn/net.safetensors")
    whole = weights.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:length])
        message = fails("certify", "torn", "--data", "digits")
        assert message.startswith("at torn: its net.safetensors or manifest.json cannot be used: ")
        assert message.endswith(". Compile its source again")
    tensors = load_file(package / "net.safetensors")
    tensors.popitem()
    save_file(tensors, weights)
    assert "Missing key" in fails("certify", "torn", "--data", "digits")


@pytest.mark.parametrize("old", [[], ["inputs", "errors"], ["network"]])
def test_a_package_whose_weights_are_no_numbers(
    fails: Fails, package: Path, tmp_path: Path, old: list[str]
) -> None:
    """Its own runtime refuses them, also where another version wrote some files of that."""
    shutil.copytree(package, "broken")
    tensors = load_file("broken/net.safetensors")
    name = min(tensors)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, "broken/net.safetensors")
    manifest = json.loads(Path("broken/manifest.json").read_text())
    for module in old:
        path = Path("broken/core", f"{module}.py")
        path.write_bytes(path.read_bytes() + b"\n# An older version.\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest["files"][f"core/{module}.py"] = digest
    Path("broken/manifest.json").write_text(json.dumps(manifest))
    assert fails("certify", "broken", "--data", "digits", "--limit", 2) == (
        f"node '{name}': the parameter holds NaN or infinity. Nothing is proved of such weights; "
        "load others"
    )


@pytest.mark.parametrize("manifest", ["[]", "{", "null", '{"manifest_version": 3}'])
def test_a_folder_with_a_manifest_of_something_else(
    fails: Fails, tmp_path: Path, manifest: str
) -> None:
    Path("extension").mkdir()
    Path("extension/manifest.json").write_text(manifest)
    assert fails("certify", "extension", "--data", "digits") == (
        "at extension: not a compiled package: no manifest.json of vercomp is in it. A package is "
        "a folder that `vercomp compile MODEL --out DIR` has written"
    )


def test_a_package_compiled_without_the_feature(fails: Fails) -> None:
    vercomp.compile(DIGITS, emit=("certify",)).save("only")
    assert fails("attack", "only", "--data", "digits", "--radius", "1") == (
        "this package was compiled without 'attack'. Compile it again with attack in emit"
    )
    assert fails("analyze", "only", "--data", "digits").startswith(
        "this package was compiled without 'hessian'"
    )


def test_data(fails: Fails, package: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((4, 64)), np.arange(4)
    np.savez(tmp_path / "labels.npz", x=x, y=y + 7)
    np.savez(tmp_path / "shape.npz", x=x[:, :63], y=y)
    np.savez(tmp_path / "nan.npz", x=np.where(x > 0.99, np.nan, x), y=y)
    np.savez(tmp_path / "bytes.npz", x=(255 * x).astype(np.uint8), y=y)
    for data, message in {
        "missing.npz": "at missing.npz: no such file",
        "labels.npz": "at labels.npz: label 10 of row 3 is out of range: the model's classes are "
        "0 to 9",
        "shape.npz": "at shape.npz: inputs have shape (63,), 63 elements; the model takes (64,), "
        "64 elements",
        "cifar": "DATA 'cifar' is none of these: a .npz file, digits, mnist:FOLDER, "
        "fashion-mnist:FOLDER or cifar10:FOLDER",
    }.items():
        assert fails("certify", package, "--data", data) == message
        assert fails("attack", package, "--data", data, "--radius", "1") == message
        assert fails("analyze", package, "--data", data) == message
    assert "holds NaN or infinity, first in row" in fails("certify", package, "--data", "nan.npz")
    assert "of the integer type uint8" in fails("certify", package, "--data", "bytes.npz")


def test_output_folders_of_others(fails: Fails, package: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    assert fails("compile", DIGITS, "--out", "mine") == (
        f"at mine: the folder holds 'thesis.tex', which vercomp did not write. {REMEDY}"
    )
    assert fails("certify", package, "--data", "digits", "--out", "mine") == (
        f"at mine: the folder holds 'thesis.tex', which is no run of vercomp. {REMEDY}"
    )
    options = ("attack", package, "--data", "digits", "--limit", 3, "--out", "run")
    with pytest.raises(SystemExit, match="0"):
        cli.main([str(option) for option in (*options, "--radius", "0.5")])


def test_a_run_of_other_options(
    fails: Fails, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("attack", package, "--data", "digits", "--limit", "3", "--out", "run")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*map(str, options), "--radius", "0.5"])
    capsys.readouterr()
    assert fails(*options, "--radius", "0.6") == (
        f"at run: the folder holds another run: radius differs. {REMEDY}"
    )
    assert fails(*options[:4], "--limit", "4", "--out", "run", "--radius", "0.5") == (
        f"at run: the folder holds another run: data differs. {REMEDY}"
    )
    Path("run/attacks.npz").write_bytes(b"torn")
    assert fails(*options, "--radius", "0.5") == (
        "at run/attacks.npz: the results kept there cannot be read. Remove the file to begin anew"
    )


def test_json_files_that_could_not_be_written(
    fails: Fails, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certify_command, "certificate_arrays", None)  # nothing is computed first
    options = ("certify", package, "--data", "digits", "--json")
    assert fails(*options, "nowhere/out.json") == (
        "at nowhere/out.json: its folder is not there, or cannot be written to. Make the folder, "
        "or give '-' for standard output"
    )
    (tmp_path / "folder").mkdir()
    assert fails(*options, "folder") == "at folder: a folder stands there, not a file"


def test_what_the_operating_system_refuses(
    fails: Fails, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * 300
    assert fails("certify", long, "--data", "digits") == f"at {long}: File name too long"

    def hidden(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "hidden/x.npz")

    monkeypatch.setattr(certify_command, "load_data", hidden)
    assert fails("certify", package, "--data", "hidden/x.npz") == (
        "at hidden/x.npz: Permission denied"
    )


def test_no_command_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: vercomp [OPTIONS]")


def test_our_own_mistakes_say_so(
    fails: Fails, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("shapes (3,) and\n(4,) do not align")

    monkeypatch.setattr(certify_command, "certificate_arrays", broken)
    assert fails("certify", package, "--data", "digits", code=1) == (
        "internal error: ValueError: shapes (3,) and; (4,) do not align; please report "
        "(VERCOMP_DEBUG=1 shows where)"
    )


def test_debug_shows_the_traceback(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setenv("VERCOMP_DEBUG", "1")
    monkeypatch.setattr(certify_command, "certificate_arrays", broken)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["certify", str(package), "--data", "digits"])
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("please report (VERCOMP_DEBUG=1 shows where)\n")


def test_names_from_outside_stay_on_one_line(fails: Fails) -> None:
    line = fails("certify", "a\n\x1b[31mred.onnx", "--data", "digits")
    assert re.fullmatch(r"at a; \[31mred\.onnx: no such file", line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one", "one"),
        ("2 nodes:\n  a\n  b\nRemove them", "2 nodes: a; b; Remove them"),
        (
            "\n".join(["20 nodes:", *(f"n{i}" for i in range(20)), "Remove them"]),
            "20 nodes: n0; n1; n2; n3; n4; and 15 more; Remove them",
        ),
    ],
)
def test_lists_become_one_line(text: str, line: str) -> None:
    assert cli._one_line(text) == line


def test_every_refused_node_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "many_norms.py").write_text(
        "import torch\n"
        "def make():\n"
        "    layers = [torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.ReLU()] * 7\n"
        "    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["compile", "many_norms:make", "--input-shape", "4", "--out", "out"])
    assert exit_.value.code == 2
    head, *nodes, remedy = capsys.readouterr().err.splitlines()
    assert head == "error: 7 operators are not supported:"
    assert [node.startswith("  node '") for node in nodes] == [True] * 7
    assert remedy == "Only affine operators and elementwise activations can be analysed"


def test_weights_that_are_not_finite(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "nan_net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    model = torch.nn.Sequential(\n"
        "        torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))\n"
        "    torch.nn.init.constant_(model[0].weight, float('nan'))\n"
        "    return model\n"
    )
    out = ("compile", "nan_net:make", "--input-shape", "4", "--out", "out")
    assert "NaN" in fails(*out)
    assert not Path("out").exists()
