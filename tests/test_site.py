"""The documentation builds without a warning, and nothing in it is out of reach."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vercomp.cli import cli

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def build(folder: Path, source: Path = ROOT) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("material", reason="needs vercomp[docs]")
    pytest.importorskip("mkdocstrings", reason="needs vercomp[docs]")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=source,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = build(folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert f'href="{path.stem}.html"' in index, f"{path.name} is in no chapter"
    for made in ("the-command-line", "architecture", "contributing", "changelog", "results"):
        assert f'href="{made}.html"' in index


def test_pages_need_no_network(site: Path) -> None:
    for path in site.glob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]*)", path.read_text()
        )
        assert not loaded, path.name


def test_the_interface_and_all_options_are_there(site: Path) -> None:
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in ("driver.compile", "core.regions.region.Region", "compiled.CompiledNetwork"):
        assert f'id="vercomp.{name}"' in api
    assert ":class:" not in api
    commands = (site / "commands.html").read_text(encoding="utf-8")
    for command in cli.commands.values():
        for option in command.params:
            if option.opts[0].startswith("--"):
                assert option.opts[0] in commands


def test_a_new_page_is_picked_up_and_a_dead_link_is_refused(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("examples", "benchmarks", "vercomp"):
        (tmp_path / name).symlink_to(ROOT / name)
    docs = tmp_path / "docs"
    docs.mkdir()
    for path in (ROOT / "docs").iterdir():
        if path.is_file():
            (docs / path.name).write_bytes(path.read_bytes())
    (docs / "another-method.md").write_text("# Another method\n\nNew.\n", encoding="utf-8")
    result = build(tmp_path / "site", tmp_path)
    assert result.returncode == 0, result.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="another-method.html"' in index
    (docs / "another-method.md").write_text("# Another\n\n[gone](gone.md)\n", encoding="utf-8")
    result = build(tmp_path / "site", tmp_path)
    assert result.returncode != 0
    assert "gone.md" in result.stderr
