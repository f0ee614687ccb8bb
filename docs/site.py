"""What mkdocs asks while it builds the site: pages that are kept elsewhere, and the navigation.

The chapters of README.md become pages of their own, so that nothing is written twice, and so do
CONTRIBUTING.md, CHANGELOG.md and benchmarks/RESULTS.md; the page of all options is made from the
commands. Every file of docs/ is in the navigation: a page that CHAPTERS does not know stands behind
the methods.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

from vercomp.cli import cli

ROOT = Path(__file__).parent.parent
CHAPTERS: dict[str, list[str]] = {
    "Start": ["index.md", "start.md", "a-worked-example.md", "models.md"],
    "Use": [
        "the-command-line.md",
        "commands.md",
        "reports.md",
        "training-for-certificates.md",
        "what-can-be-analysed.md",
        "activations.md",
        "reports.md",
        "api.md",
    ],
    "Methods": [
        "exactness.md",
        "curvature.md",
        "interval.md",
        "crown.md",
        "alpha.md",
        "local.md",
        "quadratic.md",
        "smoothing.md",
        "cascades.md",
        "attack.md",
        "regulariser.md",
        "hessian.md",
    ],
    "Inside": [
        "architecture.md",
        "contributing.md",
        "results.md",
        "what-is-not-covered-yet.md",
        "changelog.md",
    ],
}
UNKNOWN = "Methods"
"""The chapter of pages that stand in no chapter."""

OTHERS = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
}
PICTURES = ("examples/digits/methods.svg", "examples/digits/digits-certified.png")
UNUSED = {"development"}
"""Chapters of the README that are for those who have the repository before them."""

COMMANDS = """# Options of the commands

This is what `--help` says of every command; [the command line](the-command-line.md) explains it.

"""

ROLE = re.compile(r":(?:func|class|meth|attr|data|mod|exc):<code>[~.]*")


def slug(title: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w-]+", "-", title.lower()).strip("-")


def sections(text: str) -> dict[str, str]:
    """The chapters of a Markdown file by the name of their page, each with a title of level 1."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {
        f"{slug(title)}.md": f"# {title}\n" + re.sub(r"^##(#+ )", r"#\1", body, flags=re.MULTILINE)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
        if slug(title) not in UNUSED
    }


def commands() -> str:
    """The page of all commands with their options."""
    context = click.Context(cli, info_name="vercomp")
    return COMMANDS + "\n".join(
        command(cli.commands[name], name, context) for name in cli.list_commands(context)
    )


def command(asked: click.Command, name: str, parent: click.Context) -> str:
    """One command: how it is called, what it does, and its options."""
    context = click.Context(asked, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *asked.collect_usage_pieces(context)])
    options = "".join(
        f"* `{record[0]}`: {record[1]}\n"
        for option in asked.get_params(context)
        if (record := option.get_help_record(context)) and isinstance(option, click.Option)
    )
    text = inspect.cleandoc(asked.help or "")
    return f"## {name}\n\n```text\n{usage}\n```\n\n{text}\n\n{options}"


def relinked(text: str, anchors: dict[str, str]) -> str:
    """Links to files of the repository become links to the pages made of them.

    Args:
        text: Markdown.
        anchors: The page on which each anchor of the README stands.
    """

    def target(match: re.Match[str]) -> str:
        path, _, anchor = match[1].partition("#")
        page = OTHERS.get(path)
        if not path or path == "README.md":
            page = anchors[anchor]
            anchor = "" if page == f"{anchor}.md" else anchor
        elif path in PICTURES:
            page = Path(path).name
        elif path.startswith("docs/"):
            page = path.removeprefix("docs/")
        return f"]({page or path}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\((?!https?:)([^)\s]*)\)", target, text)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that are kept elsewhere; put every page into the navigation."""
    readme = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    anchors = {
        slug(heading): page
        for page, text in readme.items()
        for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }
    others = {name: (ROOT / path).read_text(encoding="utf-8") for path, name in OTHERS.items()}
    for name, text in {**readme, **others, "commands.md": commands()}.items():
        files.append(File.generated(config, name, content=relinked(text, anchors)))
    for path in PICTURES:
        files.append(File.generated(config, Path(path).name, abs_src_path=str(ROOT / path)))
    chapters = {title: list(pages) for title, pages in CHAPTERS.items()}
    placed = {page for pages in chapters.values() for page in pages}
    pages = [file.src_uri for file in files.documentation_pages()]
    chapters[UNKNOWN] += sorted(set(pages) - placed)
    named = {"index.md": "What it does"}
    config.nav = [
        {title: [{named[page]: page} if page in named else page for page in pages]}
        for title, pages in chapters.items()
    ]
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings name things as Sphinx does; here the names alone remain."""
    return ROLE.sub("<code>", html)
