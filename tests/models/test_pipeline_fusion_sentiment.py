import pytest
import torch
from asserts import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_fusion import FusionSentimentPipeline
from hf_fusion.models.processing_text import InputError, text_problem


@pytest.fixture
def pipe(make_model, processor):
    return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")


def test_answers_what_the_model_says(pipe, processor):
    answer = pipe("The room was not bad.", consistent=False)
    outputs = pipe.model(**processor(["The room was not bad."], return_tensors="pt"))
    fine, coarse = outputs.logits.softmax(-1)[0], outputs.coarse_logits.softmax(-1)[0]
    assert answer["label"] == pipe.model.config.id2label[int(fine.argmax())]
    assert answer["score"] == pytest.approx(fine.max().item(), abs=1e-6)
    assert answer["coarse"]["label"] == pipe.model.config.coarse_id2label[int(coarse.argmax())]
    assert answer["coarse"]["score"] == pytest.approx(coarse.max().item(), abs=1e-6)
    assert answer["intensity"] == pytest.approx(outputs.intensity.item(), abs=1e-6)


@pytest.mark.parametrize("fine_loss", ["cross_entropy", "corn"])
def test_the_expected_value_of_the_classes(make_model, processor, fine_loss):
    model = make_model(class_values=[1, 2, 3, 4, 5.5], fine_loss=fine_loss)
    pipe = FusionSentimentPipeline(model, processor=processor, device="cpu")
    texts = ["The room was not bad.", "good " * 9]
    for text, answer in zip(texts, pipe(texts), strict=True):
        probabilities = model(**processor([text], return_tensors="pt")).logits.softmax(-1)[0]
        expected = sum(value * p.item() for value, p in zip([1, 2, 3, 4, 5.5], probabilities, strict=True))
        assert list(answer) == ["label", "score", "coarse", "intensity", "expected"]
        assert answer["expected"] == pytest.approx(expected, abs=1e-5)
        every = pipe(text, top_k=None)
        assert every[0]["expected"] == pytest.approx(expected, abs=1e-5)
        assert not any("expected" in entry for entry in every[1:])
        by_label = {model.config.label2id[entry["label"]]: entry["score"] for entry in every}
        assert by_label == pytest.approx(dict(enumerate(probabilities.tolist())), abs=1e-5)


def test_classes_without_values_have_no_expected_one(pipe):
    assert "expected" not in pipe("good") and "expected" not in pipe("good", top_k=2)[0]


def test_top_k(pipe):
    every = pipe("good", top_k=None)
    assert [entry["label"] for entry in pipe("good", top_k=2)] == [entry["label"] for entry in every[:2]]
    assert len(every) == 5 and sum(entry["score"] for entry in every) == pytest.approx(1, abs=1e-5)
    scores = [entry["score"] for entry in every]
    assert scores == sorted(scores, reverse=True)
    assert_close(pipe(["good"], top_k=1)[0][0], pipe("good"))
    assert len(pipe("good", top_k=99)) == 5


def test_top_k_says_once_what_is_said_once(pipe):
    best, *others = pipe("good", top_k=3)
    assert best == pipe("good") and best.keys() == {"label", "score", "coarse", "intensity"}
    assert len(others) == 2 and all(entry.keys() == {"label", "score"} for entry in others)


class TestConsistency:
    """The coarse head says what the fine one contradicts: "positive" of the text that is "negative"."""

    @pytest.fixture
    def contradicting(self, pipe, monkeypatch):
        fine = torch.tensor([[0.1, 0.4, 0.2, 0.2, 0.1], [0.1, 0.4, 0.2, 0.2, 0.1]]).log()
        coarse = torch.tensor([[0.2, 0.2, 0.6], [0.7, 0.2, 0.1]]).log()
        outputs = {"logits": fine, "coarse_logits": coarse, "intensity": torch.zeros(2)}
        monkeypatch.setattr(pipe, "_forward", lambda batch: outputs)
        return pipe

    def coarse(self, pipe, **options):
        return [
            (answer["coarse"]["label"], round(answer["coarse"]["score"], 5)) for answer in pipe(["a", "b"], **options)
        ]

    def test_coarse_follows_from_fine(self, contradicting):
        assert self.coarse(contradicting) == [("negative", 0.5), ("negative", 0.7)], "0.1 + 0.4, and the head's own"

    def test_the_head_itself(self, contradicting):
        assert self.coarse(contradicting, consistent=False) == [("positive", 0.6), ("negative", 0.7)]

    def test_by_the_beginnings_of_the_coarse_classes(self, contradicting):
        contradicting.model.config.coarse_starts = [0, 1, 4]
        assert self.coarse(contradicting) == [("neutral", 0.8), ("neutral", 0.8)]

    def test_nothing_is_forced_where_nothing_is_known(self, contradicting):
        contradicting.model.config.id2label = dict(enumerate("abcde"))
        assert self.coarse(contradicting) == self.coarse(contradicting, consistent=False)

    def test_says_what_is_wrong(self, pipe, make_model, processor):
        with pytest.raises(ValueError, match="`consistent` must be true or false, got 'no'"):
            pipe("a", consistent="no")
        headless = FusionSentimentPipeline(make_model(num_coarse_labels=0), processor=processor, device="cpu")
        with pytest.raises(ValueError, match="`consistent` is for a model with a coarse head"):
            headless("a", consistent=False)


class TestCalibration:
    """Temperatures and `abstain_below` of the configuration, and their options."""

    @pytest.fixture
    def calibrated(self, make_model, processor):
        model = make_model(temperature=4.0, coarse_temperature=0.5, abstain_below=0.4)
        return FusionSentimentPipeline(model, processor=processor, device="cpu")

    def test_probabilities_are_those_of_logits_over_temperature(self, calibrated, processor, texts):
        with torch.no_grad():
            outputs = calibrated.model(**processor(texts, return_tensors="pt"))
        fine, coarse = (outputs.logits / 4).softmax(-1), (outputs.coarse_logits / 0.5).softmax(-1)
        answers = calibrated(texts, consistent=False)
        assert_close([answer["score"] for answer in answers], fine.max(-1).values)
        assert_close([answer["coarse"]["score"] for answer in answers], coarse.max(-1).values)
        every = calibrated(texts, top_k=None)
        assert_close([sorted(entry["score"] for entry in entries) for entries in every], fine.sort(-1).values)

    def test_without_it_answers_are_those_of_an_uncalibrated_model(self, calibrated, pipe, texts):
        for options in ({}, {"top_k": None}):
            assert_close(calibrated(texts, calibration=False, **options), pipe(texts, **options))
        assert_close(calibrated(texts, calibration=False)[0]["score"], pipe(texts[0])["score"])

    def test_an_unsure_answer_has_no_label_but_alternatives(self, calibrated, texts):
        threshold = sorted(answer["score"] for answer in calibrated(texts))[1] + 1e-4
        answers = calibrated(texts, abstain_below=threshold)
        ranked = calibrated(texts, top_k=3)
        assert [answer["unsure"] for answer in answers].count(True) == 2
        for answer, entries in zip(answers, ranked, strict=True):
            best = [{"label": entry["label"], "score": entry["score"]} for entry in entries]
            assert answer["unsure"] == (answer["score"] < threshold)
            assert answer["label"] == (None if answer["unsure"] else best[0]["label"])
            assert answer.get("alternatives") == (best if answer["unsure"] else None)
            assert answer["score"] == best[0]["score"] and answer["coarse"]["label"]

    def test_all_classes_keep_their_labels(self, calibrated):
        best, *others = calibrated("good", top_k=None, abstain_below=0.99)
        assert best["unsure"] and "alternatives" not in best and all(entry["label"] for entry in (best, *others))
        assert not any("unsure" in entry for entry in others)

    def test_the_mean_of_the_classes_is_calibrated(self, calibrated, processor, texts):
        calibrated.model.config.class_values = values = [1.0, 2.0, 3.0, 4.0, 5.0]
        with torch.no_grad():
            logits = calibrated.model(**processor(texts, return_tensors="pt")).logits
        for temperature, options in ((4.0, {}), (1.0, {"calibration": False})):
            expected = (logits / temperature).softmax(-1) @ torch.tensor(values)
            assert_close([answer["expected"] for answer in calibrated(texts, **options)], expected)

    def test_the_option_goes_before_the_configuration(self, calibrated):
        assert calibrated("good", abstain_below=0.99)["unsure"] and not calibrated("good", abstain_below=0.01)["unsure"]
        assert "unsure" not in calibrated("good", abstain_below=0)
        assert "unsure" in calibrated("good", calibration=False, abstain_below=0.5)
        assert "unsure" not in calibrated("good", calibration=False)

    def test_an_unsure_answer_is_explained_by_its_best_class(self, calibrated):
        text = "The room was not bad."
        expected = calibrated(text, abstain_below=0, explain=True)["explanation"]
        unsure = calibrated(text, abstain_below=0.99, explain=True)
        assert unsure["label"] is None
        assert_close(unsure["explanation"], expected)

    @pytest.mark.parametrize(
        "options",
        [{"abstain_below": 1.0}, {"abstain_below": "x"}, {"calibration": "no"}, {"calibration": None}],
        ids=str,
    )
    def test_bad_values(self, pipe, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            pipe("good", **options)

    @pytest.mark.parametrize("options", [{"abstain_below": 0.5}, {"calibration": False}], ids=str)
    def test_other_models_take_none(self, clip_model, clip_processor, options):
        classify = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
        with pytest.raises(ValueError, match="is for a DyFuLM, this model is a dashfusion"):
            classify("good", **options)


class TestAspects:
    TEXT = "The Room was not bad. The staff was rude! Breakfast? We slept well in the room."

    def test_are_answers_to_the_sentences_that_name_them(self, pipe):
        answer = pipe(self.TEXT, aspects=["room", "staff", "pool"])
        assert answer["aspects"].keys() == {"room", "staff"}
        assert_close(answer["aspects"]["staff"], pipe("The staff was rude!"))
        assert_close(answer["aspects"]["room"], pipe("The Room was not bad. We slept well in the room."))
        assert_close({name: value for name, value in answer.items() if name != "aspects"}, pipe(self.TEXT))

    def test_synonyms_lists_and_other_options(self, pipe):
        texts = ["good", self.TEXT, ""]
        found = pipe(texts, aspects={"service": ["staff"], "bed": []}, on_error="return", return_truncated=True)
        assert found[0]["aspects"] == {} and list(found[1]["aspects"]) == ["service"]
        assert isinstance(found[2], InputError) and not found[1]["truncated"]
        assert "explanation" in pipe(self.TEXT, aspects=["staff"], explain=True)
        assert [answer["aspects"].keys() for answer in pipe(iter(texts[:2]), aspects=["staff"])] == [set(), {"staff"}]

    def test_sentences_that_cannot_be_read_say_why(self, pipe):
        (answer,) = pipe(["A good stay; see below.\nroom.jpg"], aspects=["room", "stay"])
        assert answer["aspects"]["room"].pop("error").startswith("The text is the name of a file, 'room.jpg'")
        assert answer["aspects"]["room"] == {"label": None, "score": None} and answer["aspects"]["stay"]["label"]

    @pytest.mark.parametrize("aspects", ["room", [], {}, [""], [1], {"room": "bed"}, {"room": [2]}, 3])
    def test_what_are_none(self, pipe, aspects):
        with pytest.raises(ValueError, match="`aspects` must be words"):
            pipe(self.TEXT, aspects=aspects)

    def test_top_k_is_about_something_else(self, pipe):
        with pytest.raises(ValueError, match="leave `top_k` out"):
            pipe(self.TEXT, aspects=["room"], top_k=2)


def test_truncation_cuts_as_in_pipelines_of_transformers(pipe):
    long = "good " * 900
    cut = pipe(long, long_texts="cut", return_truncated=True)
    assert cut["truncated"]
    for options in ({}, {"long_texts": None}, {"long_texts": "cut"}):
        assert_close(pipe(long, truncation=True, return_truncated=True, **options), cut)
    whole = FusionSentimentPipeline(model=pipe.model, processor=pipe.processor, device="cpu", long_texts="window")
    assert_close(whole(long, truncation=True, return_truncated=True), cut)
    both = {"truncation": True, "long_texts": "window"}
    with pytest.raises(ValueError, match="`truncation=True` cuts long texts, `long_texts` window reads them whole"):
        pipe(long, **both)
    with pytest.raises(ValueError, match="give one of the two"):
        FusionSentimentPipeline(model=pipe.model, processor=pipe.processor, device="cpu", **both)


def test_batches_texts_of_like_length(pipe, monkeypatch):
    widths = []
    forward = pipe._forward
    monkeypatch.setattr(pipe, "_forward", lambda batch: widths.append(batch["input_ids"].shape[1]) or forward(batch))
    pipe(["a", "good " * 40, "b", "bad " * 40], batch_size=2)
    assert widths[0] > 40 and widths[1] < 10


def test_a_batch_ends_early_where_texts_become_shorter(pipe, monkeypatch):
    shapes = []
    forward = pipe._forward
    monkeypatch.setattr(pipe, "_forward", lambda batch: shapes.append(batch["input_ids"].shape) or forward(batch))
    pipe(["bad " * 40] * 3 + ["good " * 20] * 5, batch_size=8)
    assert [shape[0] for shape in shapes] == [3, 5] and shapes[1][1] < 0.7 * shapes[0][1]
    shapes.clear()
    pipe(["bad " * 40] + ["a"] * 7, batch_size=8)
    assert [shape[0] for shape in shapes] == [2, 6], "a quarter is filled first"


@settings(max_examples=30)
@given(text=st.text(max_size=60))
def test_any_text_that_can_be_read_has_a_finite_answer(shared_pipe, text):
    if problem := text_problem(text):
        with pytest.raises(ValueError) as error:
            shared_pipe(text)
        assert str(error.value) == f"Input 0 cannot be read. The text {problem}."
        return
    answer = shared_pipe(text)
    assert 0 <= answer["score"] <= 1 and 0 <= answer["intensity"] <= 1


@pytest.fixture(scope="module")
def shared_pipe(bpe, unigram):
    from conftest import encoder_config

    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor

    config = DyFuLMConfig(encoder_a_config=encoder_config(), encoder_b_config=encoder_config("deberta"))
    return FusionSentimentPipeline(
        DyFuLMForSequenceClassification(config), processor=DyFuLMProcessor(bpe, unigram), device="cpu"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "Expected a string"),
        ({"review": "x"}, r"keys \['review'\]"),
        ({"text": None}, "'text'"),
        ({"text": "x", "audio": [1]}, "reads text only.*'audio'"),
        (["x", None], "Expected a string"),
    ],
)
def test_bad_input(pipe, value, words):
    with pytest.raises(ValueError, match=words):
        pipe(value)


def test_errors_in_the_places_of_the_answers(pipe):
    for options in ({}, {"top_k": 2}, {"return_truncated": True}, {"explain": True}):
        good, bad, other = pipe(["good", "", "fine"], on_error="return", **options)
        assert isinstance(bad, InputError) and (bad.number, bad.reason) == (1, "The text is empty.")
        assert_close([good, other], pipe(["good", "fine"], **options))


def test_a_text_without_tokens_has_no_answer(pipe, monkeypatch):
    monkeypatch.setattr("hf_fusion.models.pipeline_common.text_problem", lambda text: None)
    with pytest.raises(
        ValueError, match=r"^Input 1 cannot be read\. The text has no token that the model's tokenizers"
    ):
        pipe(["good", ""])


class TestWindows:
    LONG = ["the room was not bad at all. " * 9, "we would never come back! " * 4, "😀" * 60, "x" * 300]
    TEXTS = ["good", LONG[0], "a bad bed", LONG[1], LONG[2], "breakfast was cold", LONG[3]]

    @pytest.fixture
    def short(self, pipe):
        """A pipeline that reads twelve tokens at once."""
        pipe.processor.max_length = 12
        return pipe

    def test_the_whole_text_is_read(self, short):
        """The last word of a text counts, by the mean of its windows."""
        for long in self.LONG[:2]:
            first, other = short([long + "good", long + "awful"], top_k=None)
            assert abs(first[0]["intensity"] - other[0]["intensity"]) > 1e-4
            first, other = short([long + "good", long + "awful"], top_k=None, long_texts="cut")
            assert_close(first, other, atol=1e-6)

    def test_answers_are_those_of_one_forward_pass(self, short):
        batch = short.processor(self.TEXTS, return_windows=True, return_tensors="pt")
        assert batch["window_texts"].bincount().max() > 5
        with torch.inference_mode():
            outputs = short.model(**batch)
        answers = short(self.TEXTS)
        assert [answer["intensity"] for answer in answers] == pytest.approx(outputs.intensity.tolist(), abs=1e-6)
        scores = outputs.logits.softmax(-1).max(-1).values.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(scores, abs=1e-6)

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
    def test_do_not_depend_on_neighbours_and_batch_size(self, short, batch_size):
        expected = [short(text) for text in self.TEXTS]
        assert_close(short(self.TEXTS, batch_size=batch_size), expected, atol=1e-5)
        assert_close(list(short(iter(self.TEXTS[::-1]), batch_size=batch_size))[::-1], expected, atol=1e-5)

    def test_a_text_of_one_window_has_the_answer_of_cut(self, short):
        texts = ["good", "a bad bed", "not bad"]
        assert_close(short(texts), short(texts, long_texts="cut"), atol=1e-6)
        assert_close(short([*texts, *self.LONG])[:3], short(texts, long_texts="cut"), atol=1e-6)

    def test_texts_of_one_window_go_the_usual_way(self, short, monkeypatch):
        """Without an input for windows, and tokenised once."""
        names, calls, forward = set(), [], short._forward
        monkeypatch.setattr(short, "_forward", lambda batch: names.update(batch) or forward(batch))
        read = type(short.processor)._read
        monkeypatch.setattr(
            type(short.processor), "_read", lambda self, texts: calls.extend(texts) or read(self, texts)
        )
        short(["good", "a bad bed"])
        assert names == set(short.processor.model_input_names) and sorted(calls) == ["a bad bed", "good"]
        calls.clear()
        short(self.LONG)
        assert sorted(calls) == sorted(self.LONG), "long texts too"

    def test_no_forward_pass_has_more_rows_than_the_batch_size(self, short, monkeypatch):
        rows, forward = [], short._forward
        monkeypatch.setattr(short, "_forward", lambda batch: rows.append(len(batch["input_ids"])) or forward(batch))
        short(self.TEXTS, batch_size=4)
        assert max(rows) == 4 and sum(rows) > 30

    def test_nothing_is_cut(self, short, monkeypatch):
        lines = []
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning", lines.append)
        for answer in short(self.LONG, return_truncated=True):
            assert answer["truncated"] is False and answer["kept"] == 1
        short(self.LONG, long_texts="window")
        assert not lines

    def test_a_text_without_tokens_among_long_ones(self, short, monkeypatch):
        monkeypatch.setattr("hf_fusion.models.pipeline_common.text_problem", lambda text: None)
        answers = short([self.LONG[0], "", self.LONG[1]], on_error="return")
        assert isinstance(answers[1], InputError) and answers[1].number == 1
        assert_close(answers[::2], short(self.LONG[:2]))

    def test_unknown_ways(self, short, clip_model, clip_processor):
        with pytest.raises(ValueError, match="`long_texts` must be one of None, 'window', 'cut', got 'fold'"):
            short("good", long_texts="fold")
        clips = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
        with pytest.raises(ValueError, match="`long_texts` window: this model cuts long texts"):
            clips("good", long_texts="window")
        assert clips("good", long_texts="cut") == clips("good")


class TestTruncation:
    LONG = "the room was not bad at all " * 3

    @pytest.fixture
    def short(self, pipe, monkeypatch):
        """A pipeline that reads ten tokens, and the lines that it logs."""
        lines = []
        pipe.processor.max_length = 10
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning", lines.append)
        return pipe, lines

    def test_is_told_once(self, short):
        pipe, lines = short
        pipe(["good", self.LONG, "bad", self.LONG], batch_size=1, long_texts="cut")
        pipe("good", long_texts="cut")
        stream = iter([self.LONG] + ["good"] * 15 + [self.LONG] * 2)
        assert len(list(pipe(stream, batch_size=1, long_texts="cut"))) == 18
        pipe(self.LONG, truncation=True)
        assert [line.partition(" inputs")[0] for line in lines] == ["2 of 4", "3 of 18", "1 of 1"]
        kept = round(100 * pipe.processor(self.LONG, return_kept=True)["kept"])
        assert 0 < kept < 100 and all(f"({kept}% of such a text was read, on average)" in line for line in lines)

    def test_is_in_the_answers_that_ask_for_it(self, short):
        pipe, lines = short
        given = ["good", self.LONG, "bad"]
        cut = {"long_texts": "cut", "return_truncated": True}
        answers = pipe(given, **cut)
        assert [answer.pop("truncated") for answer in answers] == [False, True, False] and not lines
        kept = [answer.pop("kept") for answer in answers]
        assert kept == pytest.approx(pipe.processor(given, return_kept=True)["kept"]) and kept[1] < 1
        assert_close(answers, pipe(given, long_texts="cut"))
        assert [entry["truncated"] for entry in pipe(self.LONG, top_k=3, **cut)] == [True] * 3
        assert not {"truncated", "kept"} & set(pipe(self.LONG, top_k=2, long_texts="cut")[0])
        assert all(answer["truncated"] for answer in pipe(iter([self.LONG] * 3), **cut))


class TestExplanation:
    TEXT = "The room was not bad, but breakfast was cold."

    def test_in_inference_mode(self, pipe):
        expected = pipe("The room was good.", explain=True)
        with torch.inference_mode():
            assert_close(pipe("The room was good.", explain=True), expected)

    def test_spans_and_gates(self, pipe, processor):
        answer = pipe(self.TEXT, explain=True)
        assert_close({**answer, "explanation": 0}, {**pipe(self.TEXT), "explanation": 0})
        spans = answer["explanation"]
        assert [self.TEXT[span["start"] : span["end"]] for span in spans] == [span["text"] for span in spans]
        assert "".join(span["text"] for span in spans).replace(" ", "") == self.TEXT.replace(" ", "")
        outputs = pipe.model(**processor([self.TEXT], return_tensors="pt"), output_fusion=True)
        gate = outputs.gate[0][outputs.span_mask[0]].mean(-1)
        assert [span["gate"] for span in spans] == pytest.approx(gate.tolist(), abs=1e-5)

    def test_relevance_is_complete(self, pipe, processor, monkeypatch):
        """All spans together explain the whole way from a text of mask tokens to the text."""
        monkeypatch.setattr("hf_fusion.models.pipeline_fusion_sentiment._EXPLANATION_STEPS", 1000)
        batch = processor([self.TEXT], return_tensors="pt")
        masked = {name: values.clone() for name, values in batch.items()}
        for s, tokenizer in (("", processor.tokenizer), ("_b", processor.tokenizer_b)):
            masked[f"input_ids{s}"][batch[f"span_ids{s}"] >= 0] = (
                tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
            )
        spans = 1 + int(batch["span_ids"].max())
        for label in (0, 3):
            margins = [(logits[label] - logits.mean()).item() for logits in
                       (pipe.model(**given).logits[0] for given in (masked, batch))]  # fmt: skip
            found = sum(pipe._relevance([dict(batch)], [0], label, spans))
            assert found == pytest.approx(margins[1] - margins[0], rel=0.01, abs=0.005)

    def test_covers_all_windows_of_a_long_text(self, pipe, processor, monkeypatch):
        """Each span has its place, its gate and its relevance, and all of them together explain the answer."""
        pipe.processor.max_length = 12
        text = "The room was not bad. " * 4 + "Never again!"
        answer = pipe(text, explain=True)
        found, cut = answer["explanation"], pipe(text, explain=True, long_texts="cut")["explanation"]
        assert [(span["start"], span["end"]) for span in found] == processor.spans_of(text)
        assert found[-1]["end"] == len(text) and len(cut) < len(found) / 2
        assert all(0 < span["gate"] < 1 for span in found) and found[-1]["relevance"] != 0
        batch = pipe.processor([text], return_windows=True, return_tensors="pt")
        assert len(batch["window_texts"]) > 3
        gates = pipe.model(**batch, output_fusion=True)
        assert found[0]["gate"] == pytest.approx(gates.gate[0, 0].mean().item(), abs=1e-5)
        monkeypatch.setattr("hf_fusion.models.pipeline_fusion_sentiment._EXPLANATION_STEPS", 300)
        masked = {name: values.clone() for name, values in batch.items()}
        for s, tokenizer in (("", processor.tokenizer), ("_b", processor.tokenizer_b)):
            masked[f"input_ids{s}"][batch[f"span_ids{s}"] >= 0] = (
                tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
            )
        label = pipe.model.config.label2id[answer["label"]]
        margins = [(logits[label] - logits.mean()).item() for logits in
                   (pipe.model(**given).logits[0] for given in (masked, batch))]  # fmt: skip
        found = sum(span["relevance"] for span in pipe(text, explain=True)["explanation"])
        assert found == pytest.approx(margins[1] - margins[0], rel=0.02, abs=0.005)

    def test_what_is_not_read_is_not_relevant(self, pipe):
        with torch.no_grad():  # the second encoder loses its vote
            pipe.model.dyfulm.cross_fusion.dense.weight.zero_()
            pipe.model.dyfulm.cross_fusion.dense.bias.fill_(50.0)
        calls, real = [], torch.autograd.grad
        gradients = None

        def recorded(*args, **kwargs):
            nonlocal gradients
            gradients = real(*args, **kwargs)
            calls.append(1)
            return gradients

        torch.autograd.grad = recorded
        try:
            answer = pipe(self.TEXT, explain=True)
        finally:
            torch.autograd.grad = real
        assert calls and gradients[0].abs().max() > 0 and gradients[1].abs().max() == 0
        assert [span["gate"] for span in answer["explanation"]] == pytest.approx([1] * len(answer["explanation"]))

    @pytest.mark.parametrize("fields", [{"cross_fusion": "mean"}, {"gate_level": "sequence"}])
    def test_without_a_gate_for_each_span(self, make_model, processor, fields):
        pipe = FusionSentimentPipeline(make_model(**fields), processor=processor, device="cpu")
        spans = pipe(self.TEXT, explain=True)["explanation"]
        assert {span["gate"] for span in spans} == {None} and len({span["relevance"] for span in spans}) > 3

    def test_lists(self, pipe):
        answers = pipe([self.TEXT, "good"], explain=True)
        assert len(answers[1]["explanation"]) >= 1
        assert_close(answers[0], pipe(self.TEXT, explain=True))

    def test_what_cannot_be_explained(self, pipe, clip_model, clip_processor):
        with pytest.raises(ValueError, match="`explain` is about the best answer"):
            pipe("good", explain=True, top_k=2)
        clips = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
        with pytest.raises(ValueError, match="`explain` is for a DyFuLM"):
            clips("good", explain=True)
