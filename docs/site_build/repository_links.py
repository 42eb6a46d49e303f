"""MkDocs hook: pages are written for the repository's view, and this makes them pages of the site.

CONTRIBUTING.md and CHANGELOG.md, which lie beside docs/, become pages. A link to another file outside docs/ leads to
the repository if `repo_url` says where that is, and is plain text otherwise; a file that does not exist is a warning.
A page's own table of contents is shown only where the theme's has no room.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LOG = logging.getLogger("mkdocs.hooks.repository_links")
BESIDE_DOCS = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")
CONTENTS = re.compile(r"(?:^ *- \[[^\n]+\]\(#[^\n]+\)\n)+", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/."""
    for name, uri in BESIDE_DOCS.items():
        files.append(File.generated(config, uri, abs_src_path=str(_root(config) / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Map the links of a page to those of the site, and mark its table of contents."""
    here = posixpath.dirname(_repository_path(page.file.src_uri))

    def mapped(link: re.Match[str]) -> str:
        text, path, anchor = link["text"], link["path"], link["anchor"] or ""
        target = posixpath.normpath(posixpath.join(here, path))
        if target in BESIDE_DOCS or target.startswith("docs/"):
            uri = BESIDE_DOCS.get(target, target.removeprefix("docs/"))
            return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"
        if not (_root(config) / target).exists():
            LOG.warning("%s: there is no %s", page.file.src_uri, target)
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{target}{anchor})" if config.repo_url else text

    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)  # code is left alone
    parts[::2] = [LINK.sub(mapped, part) for part in parts[::2]]
    return CONTENTS.sub(_as_contents, "".join(parts), count=1)


def _as_contents(listed: re.Match[str]) -> str:
    return f'<div class="contents" markdown="1">\n\n{listed[0]}\n</div>\n'


def _repository_path(src_uri: str) -> str:
    beside = {uri: name for name, uri in BESIDE_DOCS.items()}
    return beside.get(src_uri, f"docs/{src_uri}")


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent
