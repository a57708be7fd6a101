import json

import pandas as pd
import pytest
from figure_text import check_texts

from hf_fusion.evaluation.plots import plot_differences, plot_pareto
from hf_fusion.studies.results import _all_public, fusion_costs, pareto, tidy, write_study
from hf_fusion.studies.study import Study
from hf_fusion.studies.summaries import summarize


def test_one_number_a_row(results):
    table = tidy(results, ["validation", "test"])
    assert list(table.columns) == ["variant", "seed", "split", "metric", "value"]
    assert len(table) == 9 + 18
    row = table.query("variant == 'new one' and seed == 2 and split == 'test' and metric == 'fine_accuracy'")
    assert row["value"].tolist() == [0.66]


def test_result_files(results, tmp_path):
    study = Study(
        "/home/user/recipe.yaml", {"base": {}, "new one": {"cross_fusion": "a"}, "third": {}}, [1, 2, 3],
        {"dataset": "/data/my.csv", "dataset_options": {"files": ["/data/more.csv"], "my_token": "hf_"}},
        evaluate_on={"other": {"dataset": "/data/other.csv"}}, paper={"third": {"fine_accuracy": -0.1}},
    )  # fmt: skip
    for runs in results.values():
        for found in runs.values():
            found["other"] = {"fine_accuracy": 0.3}
    for name in ("base", "new_one", "third"):
        folder = tmp_path / name / "seed-1"
        folder.mkdir(parents=True)
        (folder / "environment.json").write_text(json.dumps({"data_fingerprint": {"test": "f"}, "rows": {"test": 1}}))
    summaries = {split: summarize(results, split) for split in ("validation", "test", "other")}
    write_study(tmp_path / "out.json", study, "../studies/study.yaml", tmp_path, results, summaries)
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["study"], written["recipe"]) == ("study.yaml", "recipe.yaml")
    assert written["variants"]["new one"]["changes"] == {"cross_fusion": "a"}
    assert written["variants"]["new one"]["seeds"]["2"]["fine_accuracy"] == pytest.approx(0.66)
    assert written["overrides"] == {"dataset": "my.csv", "dataset_options": {"files": ["more.csv"]}}, (
        "without the folders of this machine"
    )
    assert written["evaluate_on"]["other"]["data"] == {"dataset": "other.csv"}
    assert written["evaluate_on"]["other"]["variants"]["base"]["mean"] == {"fine_accuracy": pytest.approx(0.3)}
    assert written["data"]["data_fingerprint"] == {"test": "f"} and written["hardware"]["cores"]
    assert written["families"]["fine_accuracy"] == {"metrics": ["fine_accuracy"], "variants": ["new one", "third"]}
    assert written["selection"] is None and written["compute"]["runs"] == 9
    assert written["compute"]["train_seconds"] == 9 and written["compute"]["evaluation_seconds"] is None
    assert written["paper"] == {"third": {"fine_accuracy": -0.1}}
    assert len(pd.read_csv(tmp_path / "out.csv")) == 9 + 18 + 9
    tables = (tmp_path / "out.md").read_text()
    assert tables.startswith("### test\n\n| variant | fine_accuracy |\n") and tables.count("### ") == 2
    assert tables.count("\n| new one |") == 2 and tables.count("<br>paper -0.1000 |") == 1 and "loss" not in tables
    latex = (tmp_path / "out.tex").read_text()
    assert latex.count(r"\begin{tabular}") == 2 and latex.startswith("% test\n") and r"fine\_accuracy" in latex
    (folder / "environment.json").write_text(json.dumps({"data_fingerprint": {"test": "g"}, "rows": {"test": 2}}))
    record = write_study(tmp_path / "out.json", study, "study.yaml", tmp_path, results, summaries)
    assert record["data"]["base"]["rows"] == {"test": 1} and record["data"]["third"]["rows"] == {"test": 2}


def test_costs_and_front(clip_config, tmp_path):
    study = Study("recipe.yaml", {"many": {}, "few": {}, "all": {}}, [1], metrics=["mae"], pareto=[39, 400, 55])
    fields = {"many": {"num_bottleneck_tokens": 8}, "few": {"num_bottleneck_tokens": 2},
              "all": {"fusion": "concat_attention"}}  # fmt: skip
    for name, changes in fields.items():
        config = clip_config(**changes)
        config.save_pretrained(tmp_path / name / "seed-1")
    costs = fusion_costs(study, tmp_path)
    assert costs["few"] < costs["many"] < costs["all"]
    study.pareto_variants = ["few", "all"]
    assert fusion_costs(study, tmp_path) == {"few": costs["few"], "all": costs["all"]}
    clip_config(num_bottleneck_tokens=2, intermediate_size=64).save_pretrained(tmp_path / "few" / "seed-1")
    wide = fusion_costs(study, tmp_path)["few"]
    clip_config(num_bottleneck_tokens=2, anchor="symmetric").save_pretrained(tmp_path / "few" / "seed-1")
    assert wide > costs["few"] < fusion_costs(study, tmp_path)["few"]
    summary = {name: {"mean": {"mae": value}, "std": {"mae": 0.1}} for name, value in
               (("many", 0.4), ("few", 0.9), ("all", 0.41))}  # fmt: skip
    record = pareto(costs, summary, "mae")
    assert record["front"] == ["few", "many"] and record["knee"] is None
    summary["all"]["mean"]["mae"] = 0.39
    assert pareto(costs, summary, "mae")["knee"] == "many"
    check_texts(plot_pareto(pareto(costs, summary, "mae"), summary, "title"))


def test_picture_of_differences(results):
    summary = summarize(results)
    figure = plot_differences(summary, ["fine_accuracy"], "title")
    check_texts(figure)
    means = [entry["difference"]["fine_accuracy"]["mean"] for entry in list(summary.values())[1:]]
    assert [points.get_offsets()[0, 0] for points in figure.axes[0].collections] == pytest.approx(means)


def test_sentences_for_a_baseline_keep_their_slashes():
    fields = {"baseline": {"model": "/models/nli", "prompt": "The room was {}/5.", "labels": ["bad/poor", "good"]}}
    assert _all_public(fields)["baseline"] == {**fields["baseline"], "model": "nli"}
