"""A page as one file: what it may load, how it looks, and a seal that notices changes.

No dates and no paths: the same results give the same bytes. A content security policy forbids the
page to load anything and to run anything but the script that it came with.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from vercomp.report.markup import Markup, head, tag

SEAL = "<!-- vercomp report, SHA-256 of what stands above: "
"""How the last line of a report begins."""


def document(
    title: str,
    *body: Markup,
    styles: Sequence[str],
    script: str | None = None,
    pictures: bool = False,
) -> bytes:
    """A whole page, sealed.

    Args:
        title: What the browser's tab says.
        body: What the body of the page holds, in order.
        styles: Names of style sheets beside this file.
        script: The name of a script beside this file; None for a page without any.
        pictures: Whether the page holds pictures, which stand in it as data.
    """
    style = Markup("".join(_asset(name) for name in styles))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    if pictures:
        policy += "; img-src data:"
    ending: tuple[Markup, ...] = ()
    if script is not None:
        code = _asset(script)
        policy += f"; script-src '{_digest(code)}'"
        ending = (tag("script", code),)
    page = tag("html", head(title, policy, style), "\n", tag("body", *body, *ending), lang="en")
    return sealed(f"<!DOCTYPE html>\n{page}\n".encode())


def sealed(content: bytes) -> bytes:
    """A report with the hash of its content as its last line."""
    return content + f"{SEAL}{hashlib.sha256(content).hexdigest()} -->\n".encode()


def is_report(content: bytes) -> bool:
    """Whether these are the bytes of a report as it was written."""
    body, _, _ = content.rpartition(SEAL.encode())
    return bool(body) and sealed(body) == content


def _asset(name: str) -> Markup:
    return Markup(resources.files("vercomp.report").joinpath(name).read_text(encoding="utf-8"))


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
