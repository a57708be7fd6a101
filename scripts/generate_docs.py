"""Writes the tables of `README.md` and `docs/` from the records in `model_cards/results/`.

    python scripts/generate_docs.py            # rewrites every table
    python scripts/generate_docs.py --check    # changes nothing; exit status 1 if a table differs from its record

A page marks the place of a table and describes its content, see `hf_fusion/studies/record_tables.py`.
"""

import argparse
from pathlib import Path

from hf_fusion.studies.record_tables import render_page

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "model_cards" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Writes the generated tables, or checks them."""
    parser = argparse.ArgumentParser(description="Write the tables of README.md and docs/ from model_cards/results/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is not up to date")
    check = parser.parse_args(arguments).check
    stale = []
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = render_page(old, page, RESULTS)
        if new == old:
            continue
        stale.append(page)
        if not check:
            page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'not up to date' if check else 'rewritten'}")
    return int(check and bool(stale))


def pages() -> list[Path]:
    """Returns the files that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    raise SystemExit(main())
