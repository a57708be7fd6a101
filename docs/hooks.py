"""Adds files that lie outside `docs/` to the site: records and pictures of results, project documents."""

from pathlib import Path

from mkdocs.structure.files import File

_ROOT = Path(__file__).resolve().parent.parent
_DOCUMENTS = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}


def on_files(files, config):
    results = sorted((_ROOT / "model_cards" / "results").glob("*.*"))
    added = {f"data/{path.name}": path for path in results if path.suffix in (".json", ".csv", ".png")}
    added |= {name: _ROOT / path for name, path in _DOCUMENTS.items()}
    for name, path in added.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files
