"""Tables of pages, rendered from the records of this repository."""

import json
from pathlib import Path

import pytest

from hf_fusion.studies.record_tables import find_tables, render_page, render_table, without_tables

RESULTS = Path(__file__).resolve().parents[2] / "model_cards" / "results"


def render(spec, results=RESULTS):
    return render_table(spec, results, "results").replace("\N{NO-BREAK SPACE}", " ")


def test_significant_differences_are_bold_and_those_to_another_variant_are_paired_by_seed():
    spec = {"source": "robustness_dashfusion_mosi_utterance", "metrics": ["acc2_non0"], "variants": ["text alone"]}
    assert "| text alone | 0.831 ± 0.007<br>**+0.016 [+0.007, +0.025]** |" in render(spec)
    spec |= {"against": "plain"}
    seeds = json.loads((RESULTS / f"{spec['source']}.json").read_text(encoding="utf-8"))["variants"]
    seeds = {name: entry["seeds"] for name, entry in seeds.items()}
    mean = sum(seeds["text alone"][s]["acc2_non0"] - seeds["plain"][s]["acc2_non0"] for s in seeds["plain"]) / 5
    assert f"<br>{mean:+.3f} [" in render(spec)


def test_cross_validations_have_the_spread_over_folds(tmp_path):
    spec = {"source": "dashfusion_ravdess_emotion", "metrics": ["accuracy"]}
    table = render(spec)
    record = json.loads((RESULTS / f"{spec['source']}.json").read_text(encoding="utf-8"))
    first, last = (record["variants"][name] for name in ("Whisper", "linear: Whisper"))
    folds = [sum(run["accuracy"] for run in runs.values()) / 3 for runs in first["folds"].values()]
    mean = sum(folds) / 5
    spread = (sum((fold - mean) ** 2 for fold in folds) / 4) ** 0.5
    assert f"| Whisper | {mean:.3f} ± {spread:.3f} |" in table and "Mean over 5 folds and seeds 1, 2, 3" in table
    difference = sum(run["linear"]["accuracy"] for run in last["folds"].values()) / 5 - mean
    assert f"<br>{difference:+.3f} [" in table

    record["variants"]["linear: Whisper"]["difference"]["accuracy"]["p_holm"] = 0.04
    (tmp_path / f"{spec['source']}.json").write_text(json.dumps(record), encoding="utf-8")
    assert f"<br>**{difference:+.3f} [" in render(spec, tmp_path)


def test_one_seed_has_neither_spread_nor_interval():
    table = render({"source": "dyfulm_hotel_reviews", "metrics": ["fine_accuracy"]})
    assert "±" not in table.split("\n\n")[0] and "One seed (1)" in table


def test_missed_aims_are_told():
    assert "aim 2.50: missed" in render({"source": "benchmark_export", "rows": [2]})
    assert "aim 500: met" in render({"source": "benchmark_mining", "rows": [0]})


def test_a_table_that_cannot_be_made_names_its_page():
    for description in ("{source: nothing}", "{source: ablation_dyfulm_sst, metrics: [speed]}",
                        "{source: ablation_dyfulm_sst, metric: [loss]}"):  # fmt: skip
        with pytest.raises(ValueError, match=r"README\.md: table"):
            render_page(f"<!-- table: {description} -->\n<!-- /table -->", Path("README.md"), RESULTS)


def test_tables_are_found_with_their_lines_and_records():
    spec = "{source: a, baselines: b, metrics: [mae]}"
    page = f"# Page\n\n<!-- table: {spec} -->\n\n| x |\n\n<!-- /table -->\nThe end."
    (table,) = find_tables(page)
    assert (table.line, table.text, table.sources) == (3, "| x |", ["a", "b"])
    rest = without_tables(page)
    assert "| x |" not in rest and rest.splitlines()[-1] == "The end." and len(rest.splitlines()) == 8
