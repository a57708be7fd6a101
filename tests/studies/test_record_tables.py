"""Tables of pages, rendered from the records of this repository."""

import json
from pathlib import Path

import pytest

from hf_fusion.studies.record_tables import find_tables, render_page, render_table, without_tables

RESULTS = Path(__file__).resolve().parents[2] / "model_cards" / "results"


def render(spec, results=RESULTS):
    return render_table(spec, results, "results").replace("\N{NO-BREAK SPACE}", " ")


def test_significant_differences_are_bold_and_those_to_another_variant_are_paired_by_seed():
    name = "audio and vision alone"
    spec = {"source": "robustness_dashfusion_mosi_utterance", "metrics": ["acc2_non0"], "variants": [name, "plain"]}
    variants = json.loads((RESULTS / f"{spec['source']}.json").read_text(encoding="utf-8"))["variants"]
    rows = []
    for entry, mark in ((variants[name], "**"), (variants["plain"], "")):
        difference = entry["difference"]["acc2_non0"]
        assert (difference["p_holm"] < 0.05) == bool(mark)
        low, high = difference["interval"]
        rows.append(f"{entry['mean']['acc2_non0']:.3f} ± {entry['std']['acc2_non0']:.3f}<br>"
                    f"{mark}{difference['mean']:+.3f} [{low:+.3f}, {high:+.3f}]{mark} |")  # fmt: skip
    table = render(spec)
    assert f"| {name} | {rows[0]}" in table and f"| plain | {rows[1]}" in table
    seeds = {name: entry["seeds"] for name, entry in variants.items()}
    mean = sum(seeds[name][s]["acc2_non0"] - seeds["plain"][s]["acc2_non0"] for s in seeds["plain"]) / 5
    assert f"<br>{mean:+.3f} [" in render({**spec, "against": "plain"}).replace("**", "")


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


@pytest.fixture
def with_rows(tmp_path):
    """A record with intervals over rows and its cost, in a folder of its own."""
    record = json.loads((RESULTS / "ablation_dyfulm_sst.json").read_text(encoding="utf-8"))
    for entry in record["variants"].values():
        for difference in entry.get("difference", {}).values():
            difference["smallest_detectable"] = 0.0123
            difference["hierarchical"] = {"interval": [-0.5, 0.25], "p": 0.5, "p_holm": 0.6, "over": "seeds and rows",
                                          "mean": difference["mean"], "smallest_detectable": 0.02}  # fmt: skip
    record["compute"] = {"runs": 24, "train_seconds": 4500.0}
    (tmp_path / "mine.json").write_text(json.dumps(record), encoding="utf-8")
    return {"source": "mine", "metrics": ["fine_accuracy"], "variants": ["gate only"]}


def test_intervals_over_rows_take_the_place_of_those_over_seeds(with_rows, tmp_path):
    seeds, rows = render(with_rows, tmp_path), render({**with_rows, "intervals": "hierarchical"}, tmp_path)
    assert "[-0.500, +0.250]" not in seeds and "[-0.500, +0.250] |" in rows
    assert "95 % interval (bold" in seeds and "95 % interval over seeds and rows (bold" in rows
    assert "24 runs, 1.2 h of training together. Measured on 2 cores" in rows
    assert "could have seen" not in rows
    rows = render({**with_rows, "power": True}, tmp_path)
    assert "fine_accuracy 0.012 over seeds, 0.020 over seeds and rows." in rows
    with pytest.raises(ValueError, match="not possible with against"):
        render({**with_rows, "intervals": "hierarchical", "against": "full"}, tmp_path)
    with pytest.raises(ValueError, match="must be seeds or hierarchical, got 'rows'"):
        render({**with_rows, "intervals": "rows"}, tmp_path)


def test_older_records_have_no_intervals_over_rows():
    spec = {"source": "ablation_dyfulm_sst", "metrics": ["fine_accuracy"]}
    with pytest.raises(ValueError, match="the record has none"):
        render({**spec, "intervals": "hierarchical"})
    assert render({**spec, "power": True}) == render(spec)


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


def test_a_protocol_has_a_row_for_each_condition_and_summary(tmp_path):
    record = json.loads((RESULTS / "protocols_dashfusion_ravdess.json").read_text(encoding="utf-8"))
    spec = {"source": "protocols_dashfusion_ravdess", "protocol": "lnln", "metrics": ["accuracy"]}
    table = render(spec)
    half = record["protocols"]["lnln"]["conditions"]["0.5"]["variants"]["all three"]["seeds"]
    assert f"| 0.5 | {sum(run['accuracy'] for run in half.values()) / 3:.3f} ± " in table
    assert "| mean incomplete | " in table and "the mean of 5 realisations of the masks" in table
    for part in record["protocols"]["lnln"].values():
        for entry in part.values() if isinstance(part, dict) else ():
            if isinstance(entry, dict) and "variants" in entry:
                entry["variants"]["other"] = {"seeds": {"1": {"accuracy": 0.25}, "2": {"accuracy": None}}}
    record["variants"]["other"] = record["variants"]["all three"]
    (tmp_path / "two.json").write_text(json.dumps(record))
    table = render({**spec, "source": "two"}, tmp_path)
    assert "|  | all three | other |" in table and "| 0.250 |" in table and "<small>Of accuracy: mean ±" in table
    with pytest.raises(ValueError, match="unknown fields transpose; accepted: metrics, protocol, variants"):
        render({**spec, "transpose": True})


def test_several_protocols_have_a_row_for_each_summary():
    record = json.loads((RESULTS / "protocols_dashfusion_ravdess.json").read_text(encoding="utf-8"))
    spec = {"source": "protocols_dashfusion_ravdess", "protocol": ["fixed", "lnln"], "metrics": ["accuracy"]}
    table = render(spec)
    means = [
        sum(run["accuracy"] for run in entry["variants"]["all three"]["seeds"].values()) / 3
        for name in ("fixed", "lnln") for entry in record["protocols"][name]["summary"].values()
    ]  # fmt: skip
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:] if line.startswith("|")]
    assert [row[0].strip() for row in rows] == ["fixed: mean incomplete", "lnln: mean", "lnln: mean incomplete"]
    assert [float(row[1].split()[0]) for row in rows] == pytest.approx(means, abs=6e-4)
    assert (
        "fixed: mode sound, one realisation of the masks; lnln: mode sound, the mean of 5 realisations of the masks."
    ) in table
