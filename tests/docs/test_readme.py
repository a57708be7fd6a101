"""`README.md`: short, and all that it points to is part of the repository."""

import re

from document_paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
_LINK = re.compile(r"\]\(([^)]+)\)")


def anchors(path):
    """Ids of the headings of a page, as the site and GitHub write them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_it_can_be_read_at_once():
    assert 200 <= len(README.splitlines()) <= 250


def test_links_and_pictures_exist():
    for link in _LINK.findall(README):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        assert (ROOT / name).is_file(), link
        assert not anchor or anchor in anchors(ROOT / name), link


def test_terms_are_explained_where_they_first_appear():
    for word in ("Span", "Gate", "Fine", "coarse", "intensity", "anchor", "partners"):
        assert re.search(rf"\*{word}\*", README), word
