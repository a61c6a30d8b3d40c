"""README and the pages under docs, and the commands that they show."""

import re

from helpers.slices import ROOT

PAGES = {
    path.name: path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}
_BLOCKS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines_of(page: str) -> list[str]:
    """The lines of a page's blocks of commands, each of which may be several commands."""
    return "".join(_BLOCKS.findall(PAGES[page])).replace("\\\n", " ").splitlines()
