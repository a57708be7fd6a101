import numpy as np
import pytest
import torch
from asserts import assert_close, assert_same_weights
from conftest import AUDIO_SIZE, MAX_AUDIO, VISION_SIZE
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_fusion import FusionSentimentPipeline
from hf_fusion.models.pipeline_common import LOOKAHEAD_BATCHES
from hf_fusion.models.processing_text import InputError


@pytest.fixture
def make_pipe(clip_model, clip_processor, clip_processor_b):
    def make(text="bert", **fields):
        model = clip_model(text, **fields)
        with torch.no_grad():
            model.classifier[-1].weight.mul_(0.1)  # scores of a few units, as labels are
        processor = clip_processor_b if text == "dyfulm" else clip_processor
        return FusionSentimentPipeline(model, processor=processor, device="cpu")

    return make


@pytest.fixture
def pipe(make_pipe):
    return make_pipe()


@pytest.fixture
def inputs(clips):
    """The clips in every form of input: dicts with and without `None`, a string, lists for arrays."""
    rows = [dict(zip(clips, values, strict=True)) for values in zip(*clips.values(), strict=True)]
    sparse = [{name: value for name, value in row.items() if value is not None} for row in rows]
    nested = {**rows[0], "audio": rows[0]["audio"].tolist(), "vision": torch.tensor(rows[0]["vision"])}
    return [*rows, "Great staff!", *sparse[2:], nested, "?", {"text": "the " * 90}, {"vision": rows[1]["vision"]}]


def clip_of(value):
    return value if isinstance(value, dict) else {"text": value}


def logits_of(pipe, value):
    """What the model says about one clip alone."""
    with torch.no_grad():
        return pipe.model(**pipe.processor(**clip_of(value), return_tensors="pt")).logits[0]


class TestScores:
    @pytest.mark.parametrize("text", ["bert", "deberta", "dyfulm"])
    def test_are_the_models(self, make_pipe, inputs, text):
        pipe = make_pipe(text)
        with torch.no_grad():  # so that there are scores of either sign
            pipe.model.classifier[-1].bias.sub_(np.mean([logits_of(pipe, value).item() for value in inputs[:5]]))
        answers, expected = pipe(inputs), [logits_of(pipe, value).item() for value in inputs]
        assert [answer["score"] for answer in answers] == pytest.approx(expected, abs=1e-5)
        assert len({round(score, 2) for score in expected}) > 6 and min(expected) < 0 < max(expected), "they do differ"
        assert [answer["label"] for answer in answers] == ["positive" if s > 0 else "negative" for s in expected]
        assert all(answer.keys() == {"label", "score"} for answer in answers)

    @pytest.mark.parametrize(
        ("label_range", "score", "label"),
        [
            (None, -0.25, "negative"),
            (None, 0.0, "neutral"),
            (None, 0.25, "positive"),
            (None, -40.0, "negative"),
            ((1, 5), 0.5, "negative"),
            ((1, 5), 2.75, "negative"),
            ((1, 5), 3.0, "neutral"),
            ((1, 5), 3.25, "positive"),
            ((-2, 0), -1.5, "negative"),
            ((-2, 0), -1.0, "neutral"),
            ((-2, 0), -0.5, "positive"),
        ],
        ids=str,
    )
    def test_label_by_the_middle_of_the_range(self, make_pipe, label_range, score, label):
        pipe = make_pipe(**({} if label_range is None else {"label_range": label_range}))
        with torch.no_grad():
            pipe.model.classifier[-1].weight.zero_()
            pipe.model.classifier[-1].bias.fill_(score)
        assert_close(pipe("The bar was fine."), {"label": label, "score": score})

    def test_read_every_modality(self, pipe, inputs):
        complete = inputs[0]
        score = pipe(complete)["score"]
        for name in complete:
            without = {key: value for key, value in complete.items() if key != name}
            assert pipe(without)["score"] != pytest.approx(score, abs=1e-3), name

    @pytest.mark.parametrize("missing", ["text", "audio", "vision"])
    def test_missing_is_absent_or_none(self, pipe, inputs, missing):
        absent = {name: value for name, value in inputs[0].items() if name != missing}
        assert_close(pipe({**absent, missing: None}), pipe(absent))

    @pytest.mark.parametrize(
        "empty",
        [np.zeros((0, AUDIO_SIZE)), [], [[]], torch.zeros(0, AUDIO_SIZE)],
        ids=["array", "list", "2-d", "torch"],
    )
    def test_without_a_frame_is_missing(self, pipe, empty):
        assert_close(pipe({"text": "Great!", "audio": empty}), pipe("Great!"))

    def test_of_long_clips_are_those_of_the_first_frames(self, pipe):
        frames = np.random.default_rng(0).normal(size=(MAX_AUDIO + 9, AUDIO_SIZE))
        assert_close(pipe({"audio": frames}), pipe({"audio": frames[:MAX_AUDIO]}))

    def test_are_normalised_as_in_training(self, pipe, inputs):
        before = pipe(inputs[0])["score"]
        pipe.processor.feature_extractor.fit("audio", [5 + 3 * inputs[0]["audio"]])
        assert pipe(inputs[0])["score"] != pytest.approx(before, abs=1e-3)
        assert pipe(inputs[0])["score"] == pytest.approx(logits_of(pipe, inputs[0]).item(), abs=1e-5)


class TestForms:
    def test_lists_and_tuples_of_anything(self, pipe, inputs):
        alone = [pipe(value) for value in inputs]
        assert isinstance(pipe(inputs), list)
        for answers in (pipe(inputs), pipe(tuple(inputs))):
            assert_close(answers, alone)
        assert pipe([]) == []
        assert_close(pipe([inputs[0]]), [alone[0]])

    def test_data_sets(self, pipe, inputs):
        from datasets import Dataset

        rows = inputs[:2]
        data = Dataset.from_list(
            [{**row, "audio": row["audio"].tolist(), "vision": row["vision"].tolist()} for row in rows]
        )
        assert_close(list(pipe(data)), [pipe(row) for row in rows])
        texts = [row["text"] for row in rows]
        assert_close(list(pipe(KeyDataset(data, "text"))), [pipe(text) for text in texts])

    def test_longest_modality_decides_what_shares_a_batch(self, pipe, monkeypatch):
        widths = []
        forward = pipe._forward

        def record(batch):
            widths.append(batch["audio_features"].shape[1])
            return forward(batch)

        monkeypatch.setattr(pipe, "_forward", record)
        pipe([{"audio": np.ones((length, AUDIO_SIZE))} for length in (2, 11, 1, 12)], batch_size=2)
        assert widths == [12, 2]


class TestClasses:
    LABELS = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}

    @pytest.mark.parametrize("several", [False, True], ids=["single-label", "multi-label"])
    def test_label_and_probability(self, make_pipe, inputs, several):
        problem_type = "multi_label_classification" if several else None
        pipe = make_pipe(num_labels=3, problem_type=problem_type, **self.LABELS)
        answers = pipe(inputs)
        assert len({answer["label"] for answer in answers}) > 1, "the clips do differ"
        for answer, value in zip(answers, inputs, strict=True):
            logits = logits_of(pipe, value)
            probabilities = logits.sigmoid() if several else logits.softmax(-1)
            assert answer["label"] == self.LABELS["id2label"][int(logits.argmax())]
            assert answer["score"] == pytest.approx(probabilities.max().item(), abs=1e-5)
            names = [self.LABELS["id2label"][i] for i in logits.argsort(descending=True).tolist() if logits[i] >= 0]
            assert answer.get("labels") == (names if several else None)
            assert answer.keys() == {"label", "score"} | ({"labels"} if several else set())

    @pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
    def test_top_k(self, make_pipe, inputs, problem_type):
        pipe = make_pipe(num_labels=3, problem_type=problem_type, **self.LABELS)
        every = pipe(inputs[0], top_k=None)
        probabilities = logits_of(pipe, inputs[0])
        probabilities = probabilities.softmax(-1) if problem_type.startswith("single") else probabilities.sigmoid()
        expected = {name: probabilities[i].item() for i, name in self.LABELS["id2label"].items()}
        assert {entry["label"]: entry["score"] for entry in every} == pytest.approx(expected, abs=1e-5)
        scores = [entry["score"] for entry in every]
        assert scores == sorted(scores, reverse=True)
        assert_close(pipe(inputs[0], top_k=2), every[:2])
        best = pipe(inputs[0])
        assert ("labels" in best) == problem_type.startswith("multi")
        assert_close(pipe(inputs[0], top_k=1), [{name: best[name] for name in ("label", "score")}])
        assert_close(pipe(inputs[0], top_k=99), every)
        assert [len(answer) for answer in pipe(inputs, top_k=2)] == [2] * len(inputs)

    @pytest.mark.parametrize("top_k", [1, 2, None], ids=str)
    def test_scores_have_no_top_k(self, pipe, top_k):
        with pytest.raises(ValueError, match="predicts a score, not classes: it takes no `top_k`"):
            pipe("Great!", top_k=top_k)


class TestErrors:
    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"text": "a", "video": [[1.0]]}, "reads text, audio and vision; the input also has 'video'"),
            ({"audio": np.ones((1, 3)), "label": 3, "id": "x"}, "also has 'label', 'id'"),
            ({"speech": "a"}, r"dict with 'text', 'audio' or 'vision', got a dict with the keys \['speech'\]"),
            ({}, r"got a dict with the keys \[\]"),
            ({"text": None, "audio": None}, r"'text', 'audio' or 'vision', got a dict"),
            ({"text": float("nan"), "audio": np.ones((1, 3))}, r"keys \['audio', 'text'\] and the text nan"),
            ({"text": "\ud800"}, "lone surrogate"),
            ({"audio": np.ones((2, 4))}, "The audio features .* width 4 where 3 is expected"),
            ({"vision": np.ones((2, 3))}, "The vision features .* width 3 where 5 is expected"),
            ({"audio": np.zeros((0, 3))}, "There is no text, no audio frame and no vision frame"),
            ({"audio": [["a", "b", "c"]]}, "no array of numbers.*'a'"),
            ({"audio": np.ones(3)}, r"'audio' must be an array of shape \(frames, features\), got \(3,\)"),
            ({"audio": [1.0, 2.0, 3.0]}, r"'audio' must be an array of shape \(frames, features\), got list"),
            ({"text": "a", "vision": np.ones((1, 2, 5))}, r"'vision' must be an array .*got \(1, 2, 5\)"),
            ({"vision": [[1, 2], [3]]}, "'vision' must be an array .*got list"),
            ({"audio": 3.0}, "'audio' must be an array .*got float"),
            ({"audio": torch.tensor(3.0)}, "'audio' must be an array .*got Tensor"),
            ({"audio": "speech.wav"}, "'audio' must be an array .*got str"),
            ({"audio": {"array": [1.0], "sampling_rate": 16000}}, "'audio' must be an array .*got dict"),
        ],
        ids=[
            "unknown-key", "unknown-keys", "no-known-key", "empty", "all-none", "nan-text", "surrogate", "audio-width",
            "vision-width", "no-frame", "letters", "1-d", "flat-list", "3-d", "ragged", "number", "0-d", "file", "dict",
        ],
    )  # fmt: skip
    def test_name_the_input(self, pipe, inputs, value, words):
        with pytest.raises(ValueError, match=f"(?s){words}"):
            pipe(value)
        with pytest.raises(ValueError, match=f"(?s)^Input 3 cannot be read.*{words}"):
            pipe([*inputs[:3], value, *inputs[3:]], batch_size=4)

    @pytest.mark.parametrize("bad", [{"audio": np.ones((1, AUDIO_SIZE + 1))}, 7], ids=["width", "number"])
    @pytest.mark.parametrize("place", [0, LOOKAHEAD_BATCHES - 1, LOOKAHEAD_BATCHES, 2 * LOOKAHEAD_BATCHES + 3])
    def test_number_inputs_of_generators_from_the_first_on(self, pipe, bad, place):
        stream = pipe((bad if i == place else "good" for i in range(3 * LOOKAHEAD_BATCHES)), batch_size=1)
        with pytest.raises(ValueError, match=f"^Input {place} cannot be read"):
            list(stream)

    def test_several_bad_ones_name_the_first_of_the_batch(self, pipe):
        bad = {"vision": np.ones((50, VISION_SIZE - 1))}
        with pytest.raises(ValueError, match=r"^Input 1 cannot be read\."):
            pipe(["good", {"vision": np.ones((1, 2))}, "fine", bad])

    def test_in_the_places_of_the_answers(self, pipe, inputs):
        """Each batch is computed once, and the other answers are those without the bad inputs."""
        wide, short = {"audio": np.ones((9, AUDIO_SIZE + 1))}, {"vision": np.ones((1, VISION_SIZE - 1))}
        values = ["", wide, *inputs[:3], 7, short, *inputs[3:5], wide]
        sizes, forward = [], pipe._forward
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipe, "_forward", lambda batch: sizes.append(1) or forward(batch))
            answers = pipe(values, batch_size=16, on_error="return")
            count = len(sizes)
            expected = pipe(inputs[:5], batch_size=16)
            assert len(sizes) == 2 * count
        bad = {i: answer for i, answer in enumerate(answers) if isinstance(answer, InputError)}
        assert {i: error.number for i, error in bad.items()} == {i: i for i in (0, 1, 5, 6, 9)}
        assert bad[0].reason == "The text is empty." and "width 4 where 3" in bad[1].reason and "got 7" in bad[5].reason
        assert str(bad[9]).startswith("Input 9 cannot be read. The audio features must")
        assert_close([answer for i, answer in enumerate(answers) if i not in bad], expected)

    @pytest.mark.parametrize("bad", [{"audio": np.ones((1, AUDIO_SIZE + 1))}, ""], ids=["width", "empty"])
    def test_in_streams_and_alone(self, pipe, bad):
        place = LOOKAHEAD_BATCHES + 1
        stream = pipe((bad if i == place else "good" for i in range(place + 2)), batch_size=1, on_error="return")
        answers = list(stream)
        assert answers[place].number == place and all(answers[i]["label"] for i in (0, place - 1, place + 1))
        assert pipe(bad, on_error="return").number == 0
        assert [error.number for error in pipe([bad, bad], on_error="return")] == [0, 1]

    def test_unknown_option(self, pipe):
        with pytest.raises(ValueError, match="Unknown argument `modality`"):
            pipe("good", modality="audio")

    @pytest.mark.parametrize("name", ["audio", "vision"])
    def test_dyfulm_still_reads_text_only(self, make_model, processor, name):
        pipe = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
        frames = np.ones((2, AUDIO_SIZE))
        with pytest.raises(ValueError, match=f"reads text only; the input also has '{name}'"):
            pipe({"text": "good", name: frames})
        with pytest.raises(ValueError, match="Expected a string or a dict with 'text', got"):
            pipe({name: frames})
        assert_close(pipe({"text": "good", name: None}), pipe("good"))


class TestSaved:
    @pytest.mark.parametrize("text", ["bert", "dyfulm"])
    @pytest.mark.parametrize("how", ["by its class", "by its code"])
    def test_folder_gives_the_same_answers(self, make_pipe, inputs, tmp_path, text, how):
        pipe = make_pipe(text, label_range=(1, 5))
        pipe.processor.feature_extractor.fit("audio", [inputs[0]["audio"]])
        pipe.save_pretrained(tmp_path / "saved")
        by_class = how == "by its class"
        options = {"pipeline_class": FusionSentimentPipeline} if by_class else {"trust_remote_code": True}
        loaded = pipeline(task="fusion-sentiment", model=str(tmp_path / "saved"), device="cpu", **options)
        assert_same_weights(loaded.model, pipe.model)
        assert_close(loaded(inputs), pipe(inputs))
        assert_close(loaded(inputs[0]), pipe(inputs[0]))

    def test_classes_keep_their_names(self, make_pipe, inputs, tmp_path):
        pipe = make_pipe(num_labels=3, **TestClasses.LABELS)
        pipe.save_pretrained(tmp_path)
        loaded = pipeline(
            task="fusion-sentiment", model=str(tmp_path), pipeline_class=FusionSentimentPipeline, device="cpu"
        )
        assert_close(loaded(inputs, top_k=None), pipe(inputs, top_k=None))

    def test_folder_runs_no_code_unasked(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            pipeline(task="fusion-sentiment", model=str(tmp_path), device="cpu")


class TestNothingToRead:
    @pytest.mark.parametrize("text", ["", " \t", "\u200e", "nan"], ids=ascii)
    def test_a_blank_text_beside_frames_counts_as_missing(self, pipe, clips, text):
        frames = {"audio": clips["audio"][0]}
        assert_close(pipe({"text": text, **frames}), pipe(frames))
        with pytest.raises(ValueError, match=r"The text (is empty|has no visible character|is 'nan')"):
            pipe({"text": text, "audio": frames["audio"][:0]})

    def test_a_text_without_tokens_beside_frames_counts_as_missing(self, pipe, clips, monkeypatch):
        monkeypatch.setattr("hf_fusion.models.pipeline_common.text_problem", lambda text: None)
        frames = {"vision": clips["vision"][0]}
        given = [{"text": "good", **frames}, {"text": " ", **frames}, {"text": None, **frames}]
        answers = pipe(given, batch_size=3)
        assert answers[1]["score"] == pytest.approx(answers[2]["score"], abs=1e-5) != answers[0]["score"]

    def test_frames_without_a_finite_value_are_none(self, pipe, clips):
        lost = np.full_like(clips["audio"][0], np.nan)
        assert_close(pipe({"text": "good", "audio": lost}), pipe("good"))
        with pytest.raises(ValueError, match="There is no text, no audio frame and no vision frame"):
            pipe({"audio": lost})
        lost[0, 0] = 0.5
        assert pipe({"audio": lost})["label"]

    def test_the_name_of_a_file_beside_frames(self, pipe, clips):
        with pytest.raises(ValueError, match=r"the name of a file, '0001\.mp4'"):
            pipe({"text": "0001.mp4", "audio": clips["audio"][0]})


@pytest.mark.parametrize("text", ["bert", "dyfulm"])
def test_what_is_cut_is_told(make_pipe, text):
    pipe = make_pipe(text)
    pipe.processor.max_length = 10
    rows = [
        {"text": "good", "audio": np.ones((12, AUDIO_SIZE))},
        {"text": "the bar was fine " * 9},
        {"audio": np.ones((13, AUDIO_SIZE))},
        {"text": "good", "vision": np.ones((11, VISION_SIZE))},
    ]
    answers = pipe(rows, return_truncated=True)
    assert [answer["truncated"] for answer in answers] == [False, True, True, True]


class TestModalities:
    def test_others_are_refused_by_name(self, make_pipe, inputs):
        pipe = make_pipe(modalities=("text",))
        assert pipe("good")["label"]
        with pytest.raises(ValueError, match="reads text only; the input also has 'audio'"):
            pipe({"text": "good", "audio": inputs[0]["audio"]})
        with pytest.raises(ValueError, match="Expected a string or a dict with 'text', got a dict with the keys"):
            pipe({"audio": inputs[0]["audio"]})

    def test_a_model_without_text(self, make_pipe, inputs):
        pipe = make_pipe(modalities=("audio", "vision"))
        assert pipe({"audio": inputs[0]["audio"], "text": None})["label"]
        with pytest.raises(ValueError, match="Expected a dict with 'audio' or 'vision', got 'good'"):
            pipe("good")


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_of_nothing(make_pipe, top_k):
    with pytest.raises(ValueError, match="`top_k` must be at least 1"):
        make_pipe(num_labels=3)("good", top_k=top_k)


class TestMissingModalities:
    @pytest.mark.parametrize(
        ("fields", "value", "warned"),
        [
            ({}, {"text": "good"}, "no audio"),
            ({}, {"text": "good", "audio": np.ones((2, AUDIO_SIZE)), "vision": np.ones((2, VISION_SIZE))}, None),
            ({"modality_dropout": 0.2}, "good", None),
            ({"modality_distillation": 0.2}, "good", None),
            ({"modalities": ("text",)}, "good", None),
        ],
        ids=["missing", "complete", "dropout", "distillation", "text model"],
    )
    def test_a_model_that_never_missed_any_warns(self, make_pipe, monkeypatch, fields, value, warned):
        lines = []
        pipe = make_pipe(**fields)
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning_once", lines.append)
        pipe(value)
        assert [warned in line and "never trained to do without" in line for line in lines] == [True] * bool(warned)
