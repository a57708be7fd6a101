import numpy as np
import pyarrow as pa
import pytest
import torch
from asserts import assert_close

from hf_fusion import FusionSentimentPipeline
from hf_fusion.deployment.predictions import (
    flat_row,
    load_pipeline,
    output_schema,
    predict_rows,
    prediction_types,
    set_answers,
    settle_long_texts,
)
from hf_fusion.models.processing_text import text_problem
from hf_fusion.utils.errors import DataError

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


def test_what_is_no_text_has_an_error_and_no_label(classify):
    texts = ["", "good", "  \n", "clip_3.wav", "\u200b", None, 4, "bad", "nan"]
    ((*rows,),) = predict_rows(classify, [{"review": text} for text in texts], "review")
    assert [bool(row["prediction"]["label"]) for row in rows] == [text in ("good", "bad") for text in texts]
    assert [row["error"] for row in rows] == [
        "'review' is empty", None, "'review' is empty", "'review' " + text_problem("clip_3.wav"),
        "'review' has no visible character", "'review' is no text but NoneType", "'review' is no text but int", None,
        "'review' is 'nan', which stands for a missing one",
    ]  # fmt: skip
    assert all((row["prediction"] == NO_PREDICTION) == (row["truncated"] is None) for row in rows)


def test_rows_that_are_cut_are_told(classify):
    classify.processor.max_length = 12
    given = [{"text": "a fine bar " * n} for n in (1, 9)] + [{"text": ""}]
    ((*rows,),) = predict_rows(classify, given, long_texts="cut")
    assert [row["truncated"] for row in rows] == [False, True, None] and "kept" not in rows[1]["prediction"]
    assert [row["kept"] for row in rows] == [
        1,
        classify(given[1], long_texts="cut", return_truncated=True)["kept"],
        None,
    ]
    assert 0 < rows[1]["kept"] < 0.5
    for flat in (False, True):
        types = prediction_types(classify.model.config, flat, long_texts="cut")
        assert [list(flat_row(row) if flat else row)[1:] for row in rows] == [list(types)] * 3
    with pytest.raises(DataError, match="column 'kept', which would be overwritten"):
        list(predict_rows(classify, [{"text": "good", "kept": 3}], long_texts="cut"))
    ((*whole,),) = predict_rows(classify, [{**row, "kept": "mine"} for row in given])
    assert [row["truncated"] for row in whole] == [False, False, None] and "kept" not in whole[1]["prediction"]
    assert all(flat_row(row)["kept"] == "mine" for row in whole)
    assert_close(whole[1]["prediction"], classify("a fine bar " * 9))
    assert whole[1]["prediction"] != rows[1]["prediction"]


def test_ways_to_read_long_texts(classify, clip_model):
    config, clips = classify.model.config, clip_model().config
    assert [settle_long_texts(config, way) for way in (None, "window", "cut")] == ["window", "window", "cut"]
    assert [settle_long_texts(clips, way) for way in (None, "cut")] == ["cut", "cut"]
    with pytest.raises(DataError, match="`long_texts` window is for a DyFuLM"):
        settle_long_texts(clips, "window")
    with pytest.raises(DataError, match="`long_texts` must be one of window, cut, got 'fold'"):
        settle_long_texts(config, "fold")


def test_clips(clip_model, clip_processor, clips):
    pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    audio = clips["audio"][0]
    rows = [
        {"text": "", "audio": audio},
        {"text": "", "audio": audio[:0]},
        {"text": "", "audio": None},
        {"text": "a.mp3", "audio": audio},
        {"text": None, "audio": np.full_like(audio, np.nan)},
    ]
    ((*found,),) = predict_rows(pipe, rows)
    assert [bool(row["prediction"]["label"]) for row in found] == [True, False, False, False, False]
    assert_close(found[0]["prediction"], pipe({"audio": audio}))
    assert all(row["error"] for row in found[1:])


def test_several_labels(clip_model, clip_processor, clips):
    model = clip_model(num_labels=3, problem_type="multi_label_classification")
    with torch.no_grad():
        model.classifier[-1].weight.zero_()
        model.classifier[-1].bias.copy_(torch.tensor([9.0, -9.0, 5.0]))
    pipe = FusionSentimentPipeline(model, processor=clip_processor, device="cpu")
    ((row, wrong),) = predict_rows(pipe, [{"text": "good", "audio": clips["audio"][0]}, {"text": ""}])
    assert row["prediction"]["labels"] == ["LABEL_0", "LABEL_2"] and row["prediction"]["label"] == "LABEL_0"
    assert wrong["prediction"] == {"label": None, "score": None, "labels": None} and wrong["error"]
    kinds = prediction_types(model.config)
    table = pa.Table.from_pylist([row, wrong], schema=pa.schema([("text", pa.string()), *kinds.items()]))
    assert table["prediction"].to_pylist() == [row["prediction"], wrong["prediction"]]
    assert list(flat_row(row))[1:] == list(prediction_types(model.config, flat=True))


class TestAspects:
    ASPECTS = {"room": [], "staff": ["waiter"]}

    def test_columns(self, make_model, processor):
        classify = FusionSentimentPipeline(make_model(class_values=[1, 2, 3, 4, 5]), processor=processor, device="cpu")
        config, options = classify.model.config, {"aspects": self.ASPECTS}
        given = [{"text": text} for text in ("The waiter was good.", "Fine.\nroom.jpg", "")]
        ((*rows,),) = predict_rows(classify, given, **options)
        named, unread, wrong = (row["prediction"]["aspects"] for row in rows)
        assert_close(named, {"room": None, "staff": {**classify("The waiter was good."), "error": None}})
        assert unread["room"]["label"] is unread["room"]["coarse"]["label"] is None and unread["staff"] is None
        assert unread["room"]["error"].startswith("The text is the name of a file")
        assert wrong == {"room": None, "staff": None} and rows[2]["error"] == "'text' is empty" and not rows[1]["error"]
        table = pa.Table.from_pylist(rows, output_schema(pa.schema({"text": pa.string()}), config, **options))
        assert table.to_pylist() == rows
        flat = [flat_row(row) for row in rows]
        assert [list(row)[1:] for row in flat] == [list(prediction_types(config, flat=True, **options))] * 3
        assert flat[0]["label_staff"] == named["staff"]["label"] and flat[0]["score_room"] is None
        assert [row["error_room"] for row in flat] == [None, unread["room"]["error"], None]

    def test_other_models_have_none(self, clip_model, clip_processor):
        clips = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
        with pytest.raises(DataError, match="`aspects` is for models that read text alone"):
            list(predict_rows(clips, [{"text": "good"}], aspects=["room"]))
        with pytest.raises(DataError, match="`consistent` is for a model with a coarse head"):
            list(predict_rows(clips, [{"text": "good"}], consistent=False))

    def test_what_are_none(self, classify):
        with pytest.raises(DataError, match="`aspects` must be words"):
            list(predict_rows(classify, [{"text": "good"}], aspects={"": []}))


def test_the_coarse_head_may_contradict(classify, corpus):
    rows = [{"text": text} for text in corpus[:40]]
    for consistent in (True, False):
        ((*found,),) = predict_rows(classify, rows, consistent=consistent)
        assert_close([row["prediction"] for row in found], classify(corpus[:40], consistent=consistent))
    assert classify(corpus[:40]) != classify(corpus[:40], consistent=False), "else nothing is tested"


class TestUnsureRows:
    def test_columns(self, classify, corpus):
        config = classify.model.config
        scores = sorted(answer["score"] for answer in classify(corpus[:9]))
        set_answers(config, abstain_below=(scores[3] + scores[4]) / 2)
        rows = [*({"text": text} for text in corpus[:9]), {"text": ""}]
        ((*rows,),) = predict_rows(classify, rows)
        assert [row["prediction"]["unsure"] for row in rows].count(True) == 4
        assert rows[-1]["prediction"] == {**NO_PREDICTION, "unsure": None, "alternatives": None}
        types = prediction_types(config)
        pa.Table.from_pylist(rows, pa.schema({"text": pa.string(), **types}.items())).validate(full=True)
        for row in rows:
            answer, flat = row["prediction"], flat_row(row)
            assert list(row) == ["text", *types] and list(flat)[1:] == list(prediction_types(config, flat=True))
            assert bool(answer["alternatives"]) == bool(answer["unsure"]) and flat["unsure"] == answer["unsure"]
            if answer["unsure"]:
                assert len(answer["alternatives"]) == 3 and answer["label"] is None
                assert flat["alternatives"].startswith(
                    f"{answer['alternatives'][0]['label']} ({answer['score']:.2f}), "
                )

    def test_settings(self, make_config, clip_config):
        config = make_config(temperature=2.0, coarse_temperature=3.0, abstain_below=0.7)
        set_answers(config, abstain_below=0.2)
        assert (config.temperature, config.abstain_below) == (2.0, 0.2)
        set_answers(config, calibration=False)
        assert (config.temperature, config.coarse_temperature, config.abstain_below) == (1.0, 1.0, None)
        set_answers(config, calibration=False, abstain_below=0.5)
        assert config.abstain_below == 0.5
        set_answers(config, abstain_below=0)
        assert config.abstain_below is None
        with pytest.raises(DataError, match="abstain_below"):
            set_answers(config, abstain_below=1.5)
        set_answers(clip_config())
        with pytest.raises(DataError, match="this model is a dashfusion"):
            set_answers(clip_config(num_labels=3), abstain_below=0.5)


class TestFlatRows:
    @pytest.mark.parametrize("scores", [False, True])
    def test_columns(self, classify, clip_model, clip_processor, scores):
        pipe = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu") if scores else classify
        ((row,),) = predict_rows(pipe, [{"id": 3, "text": "good"}])
        flat, answer = flat_row(row), row["prediction"]
        heads = {} if scores else {"coarse": answer["coarse"]["label"], "coarse_score": answer["coarse"]["score"]}
        heads |= {} if scores else {"intensity": answer["intensity"]}
        expected = {"id": 3, "text": "good", "label": answer["label"], "score": answer["score"], **heads}
        assert list(flat.items()) == [*expected.items(), ("truncated", False), ("error", None)]
        assert list(flat)[2:] == list(prediction_types(pipe.model.config, flat=True))

    def test_values_of_classes(self, make_model, processor):
        pipe = FusionSentimentPipeline(make_model(class_values=[1, 2, 3, 4, 5]), processor=processor, device="cpu")
        (window,) = predict_rows(pipe, [{"text": "good"}, {"text": None}])
        types = prediction_types(pipe.model.config)
        table = pa.Table.from_pylist(window, pa.schema([("text", pa.string()), *types.items()]))
        assert table["prediction"].to_pylist() == [row["prediction"] for row in window]
        assert 1 < window[0]["prediction"]["expected"] < 5 and window[1]["prediction"]["expected"] is None
        for row in window:
            flat = flat_row(row)
            assert flat["expected"] == row["prediction"]["expected"]
            assert list(flat)[1:] == list(prediction_types(pipe.model.config, flat=True))

    def test_own_columns_are_not_overwritten(self, classify):
        ((row,),) = predict_rows(classify, [{"text": "good", "score": 3}])
        with pytest.raises(DataError, match=r"column 'score', which would be overwritten; rename it, or write \.jsonl"):
            flat_row(row)


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
    for name in ("prediction", "truncated", "error"):
        with pytest.raises(DataError, match=f"column '{name}', which would be overwritten"):
            list(predict_rows(classify, [{"text": "x", name: 3}]))


def test_bad_clips_cost_no_further_pass(clip_model, clip_processor, monkeypatch):
    classify = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    rows = [{"text": "good", "audio": np.ones((2, 9 if i in (2, 5) else 3))} for i in range(8)]
    forward, passes = classify._forward, []
    monkeypatch.setattr(classify, "_forward", lambda batch: passes.append(1) or forward(batch))
    ((*out,),) = predict_rows(classify, rows, batch_size=8)
    assert len(passes) == 1
    for i, row in enumerate(out):
        assert (row["prediction"]["label"] is None) == (i in (2, 5))
        assert (row["error"] or "").startswith("The audio features must") == (i in (2, 5))


def test_a_bug_of_the_model_is_no_error_of_a_row(classify, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr(classify.model, "forward", fail)
    with pytest.raises(ValueError, match=r"^a bug$"):
        list(predict_rows(classify, [{"text": "good"}, {"text": "bad"}]))


def test_only_bad_rows(classify):
    ((row,),) = predict_rows(classify, [DataError("x")])
    assert row == {"prediction": NO_PREDICTION, "truncated": None, "error": "x"}


def test_batches_without_rows_are_refused(classify):
    for batch_size in (0, -1):
        with pytest.raises(DataError, match=f"`batch_size` must be at least 1, got {batch_size}"):
            list(predict_rows(classify, [{"text": "x"}], batch_size=batch_size))
        with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
            classify("x", batch_size=batch_size)
