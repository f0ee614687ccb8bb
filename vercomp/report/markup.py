"""HTML and SVG as nested calls; whatever is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is markup: only :func:`tag` and constants of ours become one."""

    __slots__ = ()


Child = str | Iterable[str]
VOID = frozenset({"meta", "col", "br", "img"})


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Its name.
        children: Text, which is escaped, or markup, or iterables of both.
        attributes: Their values are escaped; None and False leave one out. An underscore behind a
            name that Python has taken (``class_``) is dropped, others become hyphens.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(str(value)))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def head(title: str, policy: str, style: Markup) -> Markup:
    """The head of a page that is one file: its title, what it may load, how it looks."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width"),
        tag("meta", name="generator", content="vercomp"),
        tag("title", title),
        tag("style", style),
    )


def caption(*text: Child) -> Markup:
    """A table's caption, which stays in sight where the table is wider than the screen."""
    return tag("caption", tag("span", *text))


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(_text(part) for child in children for part in _each(child)))


def clean(text: str, keep: str = "") -> str:
    """Text without what does not print: names come from outside and may hold anything."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def _each(child: Child) -> Iterable[str]:
    return (child,) if isinstance(child, str) else child


def _text(part: str) -> str:
    return part if isinstance(part, Markup) else escape(clean(part, keep="\n"))
