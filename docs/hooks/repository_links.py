"""Links of a page to files outside of docs/: they work in the repository; the site shows their text alone."""

import logging
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s:#]+)(?:#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.hooks.repository_links")  # its warnings end a strict build


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Replace links that leave docs/ by their text; warn of files that do not exist."""
    docs = Path(config.docs_dir).resolve()
    folder = (docs / page.file.src_uri).parent

    def text_or_link(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            log.warning("docs/%s links to %s, which does not exist", page.file.src_uri, link["target"])
        return link["text"]

    return LINK.sub(text_or_link, markdown)
