"""Uploaded files of rows: columns, answers, errors, and the table to download."""

import csv
import json

import pandas
import pytest
from demo_inputs import HOSTILE

from hf_fusion.data.decoding import TextFormat
from hf_fusion.deployment.demo.rendering import render_table
from hf_fusion.deployment.demo.tables import predict_table, text_columns, write_table
from hf_fusion.utils.errors import DataError

pytest_plugins = ["demo_models"]

TEXTS = ["The room was good.", "", HOSTILE, "The staff was not friendly."]


@pytest.fixture
def semicolons(tmp_path):
    """A csv with semicolons, as spreadsheets of many countries write it."""
    path = tmp_path / "reviews.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows([["id", "review", "label"], *([i, text + " é", i] for i, text in enumerate(TEXTS))])
        writer.writerow([4, "", 3])
    return str(path)


def test_rows_of_a_csv_with_semicolons(semicolons, review_model, tmp_path):
    assert text_columns(semicolons) == (["id", "review", "label"], "review")
    table = predict_table([review_model], semicolons, "review", 1000)
    assert (len(table.rows), table.total, table.failed, table.cut) == (5, 5, 1, 0)
    assert table.renamed == {"label": "input_label"} and table.rows[0]["input_label"] == "0"
    expected = review_model("The room was good. é")
    assert table.rows[0]["label"] == expected["label"]
    assert table.rows[0]["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert table.rows[4]["label"] is None and table.rows[4]["error"] == "'review' is empty"
    with open(write_table(table, tmp_path, semicolons), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert file.name.endswith("reviews_predictions.csv") and len(rows) == 5
    assert rows[2]["review"].startswith(HOSTILE) and rows[4]["error"] == "'review' is empty"
    html = render_table(table)
    assert "1 with an error" in html and "<script" not in html and "&lt;script&gt;" in html
    assert "The column label of the file is called input_label here" in html


@pytest.mark.parametrize("kind", ["jsonl", "xlsx", "txt"])
def test_other_kinds_of_files(kind, review_model, tmp_path):
    path = tmp_path / f"rows.{kind}"
    texts = [text for text in TEXTS if text]
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts) + '\n{"text": 3}\n{broken\n')
    elif kind == "xlsx":
        pandas.DataFrame({"text": texts}).to_excel(path, index=False)
    else:
        path.write_text("\n".join(texts))
    assert text_columns(str(path)) == (["text"], "text")
    table = predict_table([review_model], str(path), "text", 1000)
    assert [row["label"] for row in table.rows[:3]] == [answer["label"] for answer in review_model(texts)]
    if kind == "jsonl":
        assert (
            table.failed == 2
            and "is no text but int" in table.rows[3]["error"]
            and "rows.jsonl" in table.rows[4]["error"]
        )


def test_rows_beyond_the_limit_are_counted(semicolons, review_model):
    table = predict_table([review_model], semicolons, "review", 2)
    assert len(table.rows) == 2 and table.total == 5
    assert "The file has 5 rows; this page predicts the first 2." in render_table(table).replace("\n", " ")


def test_two_checkpoints_side_by_side(semicolons, review_model, other_model):
    table = predict_table([review_model, other_model], semicolons, "review", 1000)
    first = table.rows[0]
    assert {"acme/reviews: label", "<b>other</b>: label", "<b>other</b>: unsure", "input_label"} <= set(first)
    assert list(first)[-2:] == ["truncated", "error"] and table.failed == 1 and table.agreement == 0
    assert first["<b>other</b>: label"] is None and first["<b>other</b>: unsure"] is True
    assert "<b>" not in render_table(table)


def test_unsure_answers_agree_with_none(semicolons, other_model):
    assert predict_table([other_model, other_model], semicolons, "review", 1000).agreement == 0


def test_texts_that_spreadsheets_would_run(review_model, tmp_path):
    path, texts = tmp_path / "rows.json", ["=1+1", "@SUM(1)", "+ good", "\t=2", "-5", "-1e3", "Good.", "=x\ny"]
    path.write_text(json.dumps([{"=name": text, "text": "Good."} for text in texts]))
    table = predict_table([review_model], str(path), "text", 100)
    assert [row["=name"] for row in table.rows] == texts, "the page shows them as they are"
    with open(write_table(table, tmp_path, str(path)), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["'=name"] for row in rows] == ["'=1+1", "'@SUM(1)", "'+ good", "'\t=2", "-5", "-1e3", "Good.", "'=x\ny"]


@pytest.mark.parametrize("content", ["", "id,text\n"])
def test_a_file_without_rows(review_model, tmp_path, content):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(DataError, match="has no rows"):
        text_columns(str(tmp_path / "rows.csv"))
    with pytest.raises(DataError, match="has no rows"):
        predict_table([review_model], str(tmp_path / "rows.csv"), "text", 10)


def test_errors_of_rows_do_not_name_the_folder(review_model, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "Good."}\n{broken\n')
    table = predict_table([review_model], str(tmp_path / "rows.jsonl"), "text", 10)
    assert table.rows[1]["error"].startswith("rows.jsonl, line 2: ")


def test_the_columns_are_named_if_there_is_no_such_one(semicolons, review_model):
    with pytest.raises(DataError, match="no column 'text'; there are id, review, label"):
        predict_table([review_model], semicolons, "text", 10)


def test_an_encoding_that_is_not_found_can_be_given(review_model, tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes("text;id\nThe caf\u00e9 was good.;1\n".encode("cp1252"))
    with pytest.raises(DataError, match="is not UTF-8"):
        text_columns(str(path))
    known = TextFormat("cp1252")
    assert text_columns(str(path), known) == (["text", "id"], "text")
    assert predict_table([review_model], str(path), "text", 10, known).rows[0]["text"] == "The caf\u00e9 was good."
