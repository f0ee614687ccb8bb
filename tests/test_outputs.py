"""Output folders: what is replaced, what is resumed, and what is never touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vercomp import outputs
from vercomp.errors import InternalError, OutputFolderError
from vercomp.outputs import RunFolder, sha256, write_atomically, write_package

REMEDY = "Give another folder, or remove this one yourself"


def package(text: str = "one") -> dict[str, bytes]:
    files = {"__init__.py": text.encode(), "core/dual.py": b"pass\n"}
    table = {name: sha256(content) for name, content in files.items()}
    return {**files, "manifest.json": json.dumps({"files": table}).encode()}


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_package_is_written_replaced_and_left_alone_when_equal(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert write_package(out, package()) is True
    assert content(out) == package()
    before = (out / "__init__.py").stat().st_ino
    assert write_package(out, package()) is False
    assert (out / "__init__.py").stat().st_ino == before
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "x.pyc").write_bytes(b"left by an import")
    assert write_package(out, package("two")) is True
    assert content(out) == package("two")
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    write_package(tmp_path / "out", {})
    (tmp_path / "empty").mkdir()
    write_package(tmp_path / "empty", package())
    assert content(tmp_path / "empty") == package()


def test_files_and_folders_have_ordinary_permissions(tmp_path: Path) -> None:
    os.umask(0o022)
    write_package(tmp_path / "out", package())
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    write_package(tmp_path / "real", package())
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_package(tmp_path / "link", package("two"))
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == package("two")


def spoil(folder: Path, how: str) -> str:
    """Make a package's folder one that must be refused; returns the words expected."""
    if how == "changed":
        (folder / "__init__.py").write_bytes(b"mine now")
        return "the package there has changed in '__init__.py'"
    if how == "added":
        (folder / "notes.txt").write_bytes(b"mine")
        return "the package there also holds 'notes.txt'"
    if how == "lost":
        (folder / "core" / "dual.py").unlink()
        return "the package there has lost 'core/dual.py'"
    if how == "foreign":
        for name in ("manifest.json", "__init__.py", "core/dual.py"):
            (folder / name).unlink()
        for number in range(5):
            (folder / f"thesis-{number}.tex").write_bytes(b"years of work")
        return (
            "the folder holds 'thesis-0.tex', 'thesis-1.tex', 'thesis-2.tex' and 2 more, "
            "which vercomp did not write"
        )
    if how == "other manifest":
        (folder / "manifest.json").write_text('{"name": "a browser extension"}')
        return "its manifest.json is not that of a package of vercomp"
    if how == "linked":
        (folder / "__init__.py").unlink()
        (folder / "__init__.py").symlink_to("/etc/hostname")
        return "the package there has changed in '__init__.py'"
    raise ValueError(how)


@pytest.mark.parametrize("how", ["changed", "added", "lost", "foreign", "other manifest", "linked"])
def test_anything_else_is_refused_and_untouched(tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    write_package(out, package())
    words = spoil(out, how)
    before = content(out)
    with pytest.raises(OutputFolderError) as caught:
        write_package(out, package("two"))
    assert str(caught.value) == f"at {out}: {words}. {REMEDY}"
    assert content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputFolderError) as caught:
        write_package(tmp_path / "out", package())
    assert str(caught.value) == f"at {tmp_path / 'out'}: a file stands there. {REMEDY}"
    assert (tmp_path / "out").read_text() == "mine"


def test_a_failure_half_way_leaves_the_old_package_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_package(out, package())
    rename = os.rename
    calls = []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(outputs.os, "rename", failing)
    with pytest.raises(OutputFolderError) as caught:
        write_package(out, package("two"))
    assert "cannot be written: No space left on device" in str(caught.value)
    assert content(out) == package()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "a/../../x.py", ""])
def test_no_file_of_a_package_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InternalError, match="a package's file is named"):
        write_package(tmp_path / "out", {name: b""})
    assert list(tmp_path.iterdir()) == []


def test_writing_a_file_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.bin"
    write_atomically(path, b"old")

    def failing(source: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(outputs.os, "replace", failing)
    with pytest.raises(OutputFolderError, match="cannot be written: Input/output error"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


RUN = {"command": "certify", "model": "abc", "options": {"radius": 0.5, "shape": (1, 2)}}


def test_a_run_is_resumed_by_its_equal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = RunFolder(out, RUN, "certificates.npz")
    assert not first.results.exists()
    first.write_results(b"half")
    (out / ".certificates.npz.abcd1234").write_bytes(b"left by a kill")
    second = RunFolder(out, dict(RUN), "certificates.npz")
    assert second.results.read_bytes() == b"half"
    second.write_summary({"n": 1})
    RunFolder(out, RUN, "certificates.npz")
    assert json.loads((out / "result.json").read_text()) == {"n": 1}


def test_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    RunFolder(tmp_path, RUN, "certificates.npz").write_results(b"mine")
    with pytest.raises(OutputFolderError) as caught:
        RunFolder(tmp_path, {**RUN, "model": "def"}, "certificates.npz")
    assert str(caught.value) == (
        f"at {tmp_path}: the folder holds another run: model differs. {REMEDY}"
    )
    with pytest.raises(OutputFolderError, match=r"another run: command, options differ\. "):
        RunFolder(tmp_path, {**RUN, "command": "attack", "options": 1}, "attacks.npz")
    options = {"radius": 0.6, "shape": [1, 2], "targets": None}
    with pytest.raises(OutputFolderError, match=r"another run: radius, targets differ\. "):
        RunFolder(tmp_path, {**RUN, "options": options}, "certificates.npz")
    assert (tmp_path / "certificates.npz").read_bytes() == b"mine"


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letter.txt").write_text("dear")
    with pytest.raises(OutputFolderError) as caught:
        RunFolder(tmp_path / "a", RUN, "certificates.npz")
    assert str(caught.value) == (
        f"at {tmp_path / 'a'}: the folder holds 'letter.txt', which is no run of vercomp. {REMEDY}"
    )
    RunFolder(tmp_path / "b", RUN, "certificates.npz")
    (tmp_path / "b" / "letter.txt").write_text("dear")
    with pytest.raises(OutputFolderError, match=r"the run's folder also holds 'letter.txt'"):
        RunFolder(tmp_path / "b", RUN, "certificates.npz")
    (tmp_path / "b" / "run.json").write_text("{")
    with pytest.raises(OutputFolderError, match=r"its run\.json cannot be read"):
        RunFolder(tmp_path / "b", RUN, "certificates.npz")


def test_a_run_may_have_folders_and_pictures_of_its_own(tmp_path: Path) -> None:
    others = ("history.json", "network/", "penalty-*/", "*.png")

    def again() -> None:
        RunFolder(tmp_path, RUN, "checkpoint.pt", others)

    again()
    for name in ("history.json", "network/net.py", "network/core/dual.py", "a.png"):
        write_atomically(tmp_path / name, b"")
    for name in ("penalty-0.5/run.json", ".network.new-abc/net.py", ".network.old-x/net.py"):
        write_atomically(tmp_path / name, b"")  # of a package that was being replaced
    for name in (".checkpoint.pt.a1b2c3d4", ".radii.npz.a1b2c3d4"):
        (tmp_path / name).write_bytes(b"half")
    again()
    for strange in ("networks/net.py", "penalty/run.json", "deep/a.png", ".other.new-x/net.py"):
        write_atomically(tmp_path / strange, b"")
        with pytest.raises(OutputFolderError, match=f"also holds '{strange}'"):
            again()
        (tmp_path / strange).unlink()
    again()
