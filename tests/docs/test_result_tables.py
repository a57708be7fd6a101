"""Tables of `README.md` and `docs/`: as their records say, digit for digit."""

import importlib.util
import json
import re
import shutil

import pytest
from document_paths import ROOT

spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
generate_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate_docs)

PAGES = [path.relative_to(ROOT).as_posix() for path in generate_docs.pages()]
NUMBER = re.compile(r"\d+\.\d{2,}")


def render(spec):
    return generate_docs.render_table(spec, "results").replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A copy of the records that a test may change: `records(name, change)`."""
    shutil.copytree(generate_docs.RESULTS, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "*.csv"))
    monkeypatch.setattr(generate_docs, "RESULTS", tmp_path / "results")

    def change(name, mend):
        path = tmp_path / "results" / f"{name}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        mend(record)
        path.write_text(json.dumps(record), encoding="utf-8")

    return change


def test_tables_are_those_of_the_records(capsys):
    assert generate_docs.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_tables_outside_the_markers_hold_no_measurements(page):
    """A number with two or more decimals in a table must come from a record."""
    text = generate_docs._TABLE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row for row in rows if NUMBER.search(row) and "arXiv" not in row] == []


def test_check_sees_another_number(records, capsys):
    def mend(record):
        record["variants"]["DyFuLM"]["mean"]["fine_accuracy"] += 0.001

    records("dyfulm_hotel_reviews", mend)
    assert generate_docs.main(["--check"]) == 1
    assert "README.md: not up to date" in capsys.readouterr().out


def test_significant_differences_are_bold_and_those_to_another_variant_are_paired_by_seed():
    spec = {"source": "robustness_dashfusion_mosi_utterance", "metrics": ["acc2_non0"], "variants": ["text alone"]}
    assert "| text alone | 0.831 ± 0.007<br>**+0.016 [+0.007, +0.025]** |" in render(spec)
    spec |= {"against": "plain"}
    seeds = json.loads((generate_docs.RESULTS / f"{spec['source']}.json").read_text(encoding="utf-8"))["variants"]
    seeds = {name: entry["seeds"] for name, entry in seeds.items()}
    mean = sum(seeds["text alone"][s]["acc2_non0"] - seeds["plain"][s]["acc2_non0"] for s in seeds["plain"]) / 5
    assert f"<br>{mean:+.3f} [" in render(spec)


def test_cross_validations_have_the_spread_over_folds(records):
    spec = {"source": "dashfusion_ravdess_emotion", "metrics": ["accuracy"]}
    table = render(spec)
    record = json.loads((generate_docs.RESULTS / f"{spec['source']}.json").read_text(encoding="utf-8"))
    first, last = (record["variants"][name] for name in ("Whisper", "linear: Whisper"))
    folds = [sum(run["accuracy"] for run in runs.values()) / 3 for runs in first["folds"].values()]
    mean = sum(folds) / 5
    spread = (sum((fold - mean) ** 2 for fold in folds) / 4) ** 0.5
    assert f"| Whisper | {mean:.3f} ± {spread:.3f} |" in table and "Mean over 5 folds and seeds 1, 2, 3" in table
    difference = sum(run["linear"]["accuracy"] for run in last["folds"].values()) / 5 - mean
    assert f"<br>{difference:+.3f} [" in table

    def mend(changed):
        changed["variants"]["linear: Whisper"]["difference"]["accuracy"]["p_holm"] = 0.04

    records(spec["source"], mend)
    assert f"<br>**{difference:+.3f} [" in render(spec)


def test_one_seed_has_neither_spread_nor_interval():
    table = render({"source": "dyfulm_hotel_reviews", "metrics": ["fine_accuracy"]})
    assert "±" not in table.split("\n\n")[0] and "One seed (1)" in table


def test_missed_aims_are_told():
    assert "aim 2.50: missed" in render({"source": "benchmark_export", "rows": [2]})
    assert "aim 500: met" in render({"source": "benchmark_mining", "rows": [0]})


def test_a_table_that_cannot_be_made_names_its_page():
    page = generate_docs.ROOT / "README.md"
    for description in ("{source: nothing}", "{source: ablation_dyfulm_sst, metrics: [speed]}",
                        "{source: ablation_dyfulm_sst, metric: [loss]}"):  # fmt: skip
        with pytest.raises(ValueError, match=r"README\.md: table"):
            generate_docs.render_page(f"<!-- table: {description} -->\n<!-- /table -->", page)
