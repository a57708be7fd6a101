import pytest
import torch

from hf_fusion import FusionSentimentPipeline
from hf_fusion.data.files import DataError
from hf_fusion.evaluation.predictions import load_pipeline, predict_rows

CLASS = {"label": None, "score": None}
NO_PREDICTION = {**CLASS, "coarse": CLASS, "intensity": None}


@pytest.fixture
def classify(make_model, processor):
    return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")


def test_every_row_comes_back_in_order(classify, corpus):
    rows = [{"id": i, "review": text} for i, text in enumerate(corpus[:70])]
    rows[3] = DataError("line 4: broken")
    rows[10]["review"] = None
    rows[20] = {"id": 20, "other": "x"}
    rows[30]["review"] = "\ud800"
    windows = list(predict_rows(classify, iter(rows), "review", batch_size=2))
    assert [len(window) for window in windows] == [32, 32, 6]
    out = [row for window in windows for row in window]
    assert [row["id"] for row in out] == [i if i != 3 else None for i in range(70)]
    assert {i: row["error"] for i, row in enumerate(out) if row["error"]} == {
        3: "line 4: broken",
        10: "'review' is no text but NoneType",
        20: "no column 'review'; there are id, other",
        30: r"'review' is no valid Unicode: lone surrogate '\ud800' at character 0. Decode it with errors='replace'",
    }
    for i, row in enumerate(out):
        if row["error"]:
            assert row["prediction"] == NO_PREDICTION
        else:
            assert row["prediction"]["label"] == classify(rows[i]["review"])["label"]


def test_checkpoint_without_all_weights_is_refused(make_model, processor, tmp_path):
    make_model().dyfulm.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="no weights for classifier"):
        load_pipeline(str(tmp_path))


def test_pickled_weights_are_refused(make_model, processor, tmp_path):
    model = make_model()
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    load_pipeline(str(tmp_path), device="cpu")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        load_pipeline(str(tmp_path), device="cpu")


def test_own_columns_are_not_overwritten(classify):
    with pytest.raises(DataError, match="column 'error', which would be overwritten"):
        list(predict_rows(classify, [{"text": "x", "error": 3}]))


def test_only_bad_rows(classify):
    ((row,),) = predict_rows(classify, [DataError("x")])
    assert row == {"prediction": NO_PREDICTION, "truncated": None, "error": "x"}


def test_batches_without_rows_are_refused(classify):
    for batch_size in (0, -1):
        with pytest.raises(DataError, match=f"`batch_size` must be at least 1, got {batch_size}"):
            list(predict_rows(classify, [{"text": "x"}], batch_size=batch_size))
        with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
            classify("x", batch_size=batch_size)
