"""The built site loads nothing from other hosts: no script, style, font or image. Only links leave it."""

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests run without mkdocs
    from mkdocs.config.defaults import MkDocsConfig

LOADED = {"src", "srcset", "poster", "data"}
# What a <link> may name without loading it.
NAMED = {"canonical", "next", "prev", "author", "license"}
OUTSIDE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
OUTSIDE_IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
log = logging.getLogger("mkdocs.hooks.outside_requests")  # its warnings end a strict build


class Requests(HTMLParser):
    """The addresses that a browser loads to show a page, as far as they are on other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what this element loads."""
        values = {name: value or "" for name, value in attrs}
        loaded = [value for name, value in values.items() if name in LOADED]
        if tag == "link" and values.get("rel") not in NAMED:
            loaded.append(values.get("href", ""))
        self.outside += [value for value in loaded if OUTSIDE.match(value.strip())]
        self.outside += OUTSIDE_IN_STYLE.findall(values.get("style", ""))


def outside_requests(path: Path) -> list[str]:
    """Return the addresses on other hosts that a page or a style sheet loads."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return OUTSIDE_IN_STYLE.findall(text)
    page = Requests()
    page.feed(text)
    return page.outside + OUTSIDE_IN_STYLE.findall("".join(re.findall(r"<style.*?</style>", text, re.DOTALL)))


def on_post_build(config: "MkDocsConfig", **_: object) -> None:
    """Warn of every page and style sheet that loads something from another host."""
    site = Path(config.site_dir)
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        for address in outside_requests(path):
            log.warning(
                "%s loads %s, but the site must work without a network", path.relative_to(site), address
            )
