import copy
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import AUDIO_SIZE, MAX_AUDIO, MAX_VISION, VISION_SIZE
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor, PreTrainedTokenizerFast

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor, DyFuLMProcessor

SIZES = {"audio": AUDIO_SIZE, "vision": VISION_SIZE}
LIMITS = {"audio": MAX_AUDIO, "vision": MAX_VISION}
TEXT_NAMES = ["input_ids", "attention_mask"]
FRAME_NAMES = ["audio_features", "audio_attention_mask", "vision_features", "vision_attention_mask"]

both_streams = pytest.mark.parametrize("name", ["audio", "vision"])
kinds = pytest.mark.parametrize("kind", ["one", "two"])


@pytest.fixture(scope="module")
def processors(wordpiece, bpe, unigram):
    """Fitted processors with one tokenizer and with two."""
    rng = np.random.default_rng(7)
    extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
    for name, size in SIZES.items():
        extractor.fit(name, [5 + 3 * rng.normal(size=(40, size))])
    return {
        "one": DashFusionProcessor(wordpiece, extractor, max_length=16),
        "two": DashFusionProcessor(bpe, copy.deepcopy(extractor), unigram, max_length=20),
    }


def random_frames(name, length, seed=0):
    return np.random.default_rng(seed).normal(size=(length, SIZES[name])).astype(np.float32)


def check_frames(batch, name, clips):
    """The features of `batch` are those of `clips`, cut and padded with zeros; the masks say where."""
    features, mask = batch[f"{name}_features"], batch[f"{name}_attention_mask"]
    lengths = [0 if clip is None else min(len(clip), LIMITS[name]) for clip in clips]
    assert features.shape == (len(clips), max(lengths), SIZES[name]) and mask.shape == features.shape[:2]
    for row, row_mask, clip, length in zip(features, mask, clips, lengths, strict=True):
        assert row_mask.tolist() == [1] * length + [0] * (max(lengths) - length)
        assert (row[length:] == 0).all()
        if length:
            np.testing.assert_array_equal(row[:length], clip[:length])


def check_same(batch, expected):
    """Two batches are equal bit for bit."""
    assert sorted(batch) == sorted(expected)
    for name, values in expected.items():
        assert np.array_equal(batch[name], values), name
        assert np.asarray(batch[name]).dtype == np.asarray(values).dtype, name


class TestOneClip:
    def test_is_a_batch_of_one(self, clip_processor, clips):
        text, audio, vision = (clips[name][0] for name in ("text", "audio", "vision"))
        batch = clip_processor(text, audio, vision, return_tensors="np")
        assert list(batch) == clip_processor.model_input_names == TEXT_NAMES + FRAME_NAMES
        assert batch["input_ids"].tolist() == [clip_processor.tokenizer(text)["input_ids"]]
        assert (batch["attention_mask"] == 1).all() and batch["attention_mask"].shape == batch["input_ids"].shape
        check_frames(batch, "audio", [audio])
        check_frames(batch, "vision", [vision])

    def test_tensors_have_the_types_that_the_model_reads(self, clip_processor, clips):
        batch = clip_processor(*(clips[name][0] for name in ("text", "audio", "vision")), return_tensors="pt")
        for name, values in batch.items():
            assert values.dtype == (torch.float32 if name.endswith("features") else torch.int64), name

    @pytest.mark.parametrize("given_name", ["text", "audio", "vision"])
    def test_with_one_modality_alone(self, clip_processor, clips, given_name):
        batch = clip_processor(**{given_name: clips[given_name][0]}, return_tensors="np")
        assert list(batch) == (TEXT_NAMES if given_name == "text" else [n for n in FRAME_NAMES if given_name in n])
        if given_name != "text":
            check_frames(batch, given_name, [clips[given_name][0]])

    @both_streams
    @pytest.mark.parametrize(
        "convert",
        [
            np.ndarray.tolist,
            lambda a: tuple(map(tuple, a.tolist())),
            list,
            torch.tensor,
            lambda a: list(torch.tensor(a)),
            lambda a: a.astype(np.float64),
            lambda a: a[None],
            lambda a: torch.tensor(a)[None],
            lambda a: [a],
            lambda a: [a.tolist()],
            lambda a: (torch.tensor(a),),
        ],
        ids=[
            "lists", "tuples", "row-arrays", "tensor", "row-tensors", "float64", "3-d", "3-d-tensor", "list-of-arrays",
            "3-nested-lists", "tuple-of-tensors",
        ],
    )  # fmt: skip
    def test_frames_in_any_form(self, clip_processor, name, convert):
        clip = random_frames(name, 4)
        check_frames(clip_processor(**{name: convert(clip)}, return_tensors="np"), name, [clip])

    def test_whole_numbers_become_floats(self, clip_processor):
        batch = clip_processor(audio=[[1, 2, 3], [4, 5, 6]], return_tensors="np")
        assert batch["audio_features"].dtype == np.float32
        assert batch["audio_features"].tolist() == [[[1, 2, 3], [4, 5, 6]]]

    @pytest.mark.parametrize("text", ["", "  \t ", "\u200b"], ids=["empty", "blank", "zero-width"])
    @kinds
    def test_empty_text_is_a_text(self, processors, kind, text):
        batch = processors[kind](text, return_tensors="np")
        assert all((batch[name] == 1).all() and batch[name].size for name in batch if "mask" in name)

    @pytest.mark.parametrize(
        "empty",
        [None, [[]], [None], np.zeros((0, AUDIO_SIZE)), [np.zeros((0, AUDIO_SIZE))], np.zeros((1, 0, AUDIO_SIZE))],
        ids=["none", "list", "list-of-none", "array", "list-of-arrays", "3-d"],
    )
    def test_no_frame_is_no_modality(self, clip_processor, empty):
        check_same(clip_processor("Great!", empty, return_tensors="np"), clip_processor("Great!", return_tensors="np"))


class TestSeveralClips:
    def test_shapes_and_masks(self, clip_processor, clips):
        batch = clip_processor(**clips, return_tensors="np")
        assert list(batch) == TEXT_NAMES + FRAME_NAMES
        rows = [[] if text is None else clip_processor.tokenizer(text)["input_ids"] for text in clips["text"]]
        width = max(map(len, rows))
        assert batch["input_ids"].tolist() == [row + [0] * (width - len(row)) for row in rows]
        assert batch["attention_mask"].tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        for name in SIZES:
            check_frames(batch, name, clips[name])

    @kinds
    def test_missing_for_single_clips_gives_masks_of_zeros(self, processors, kind, clips):
        batch = processors[kind](**clips, return_tensors="np")
        for name, row in (("audio", 3), ("vision", 4)):
            assert batch[f"{name}_attention_mask"].sum(1).tolist().index(0) == row
            assert (batch[f"{name}_features"][row] == 0).all()
        for name in processors[kind].text_input_names:
            assert (batch[name][2] == (-1 if name.startswith("span") else 0)).all(), name
            if name.startswith("attention"):
                assert (batch[name][[0, 1, 3, 4]].sum(1) > 0).all()

    @kinds
    @pytest.mark.parametrize("missing", ["text", "audio", "vision"])
    @pytest.mark.parametrize("how", ["absent", "list-of-none"])
    def test_missing_for_all_clips_gives_no_tensors(self, processors, kind, clips, missing, how):
        processor = processors[kind]
        given = {name: values[:2] for name, values in clips.items()}
        complete = processor(**given, return_tensors="np")
        given[missing] = None if how == "absent" else [None, None]
        gone = processor.text_input_names if missing == "text" else [n for n in FRAME_NAMES if missing in n]
        batch = processor(**given, return_tensors="np")
        check_same(batch, {name: values for name, values in complete.items() if name not in gone})

    @both_streams
    @pytest.mark.parametrize("convert", [np.asarray, torch.tensor, np.ndarray.tolist], ids=["numpy", "torch", "lists"])
    def test_three_dimensional_array(self, clip_processor, name, convert):
        array = np.stack([random_frames(name, 6, seed) for seed in range(3)])
        check_frames(clip_processor(**{name: convert(array)}, return_tensors="np"), name, list(array))

    def test_empty_lists_among_nested_lists(self, clip_processor):
        clips = [[], [[1.0, 2.0, 3.0]], None]
        batch = clip_processor(["a", "b", "c"], clips, return_tensors="np")
        assert batch["audio_attention_mask"].tolist() == [[0], [1], [0]]
        assert batch["audio_features"].tolist() == [[[0, 0, 0]], [[1, 2, 3]], [[0, 0, 0]]]

    def test_tuples_of_clips(self, clip_processor, clips):
        as_tuples = {name: tuple(values) for name, values in clips.items()}
        check_same(clip_processor(**as_tuples, return_tensors="np"), clip_processor(**clips, return_tensors="np"))

    def test_without_return_tensors_text_is_lists(self, clip_processor, clips):
        batch = clip_processor(**clips)
        assert isinstance(batch["input_ids"], list) and isinstance(batch["input_ids"][0], list)
        expected = clip_processor(**clips, return_tensors="np")
        assert all(np.array_equal(batch[name], expected[name]) for name in expected)

    def test_token_type_ids_where_the_tokenizer_has_them(self, wordpiece, clips):
        tokenizer = copy.deepcopy(wordpiece)
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        processor = DashFusionProcessor(tokenizer)
        batch = processor(clips["text"][:2], return_tensors="np")
        assert processor.text_input_names == ["input_ids", "token_type_ids", "attention_mask"]
        assert sorted(batch) == sorted(processor.text_input_names)
        assert np.array_equal(batch["token_type_ids"], np.zeros_like(batch["input_ids"]))
        expected = DashFusionProcessor(wordpiece)(clips["text"][:2], return_tensors="np")
        check_same({name: batch[name] for name in expected}, dict(expected))


class TestErrors:
    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({}, "at least one of `text`, `audio` and `vision`"),
            ({"text": ["a", "b"], "audio": np.zeros((2, 3))}, "'text': 2, 'audio': 1.*two-dimensional array is one"),
            ({"text": "a", "vision": np.zeros((2, 4, 5))}, "'text': 1, 'vision': 2"),
            ({"audio": [None, np.ones((1, 3))], "vision": [np.ones((1, 5))] * 3}, "'audio': 2, 'vision': 3"),
            ({"text": "a", "audio": []}, "'text': 1, 'audio': 0"),
            ({"text": [None]}, "Input 0 .* There is no text, no audio frame and no vision frame"),
            ({"text": ["a", None], "audio": [None, np.zeros((0, 3))]}, "Input 1 .* There is no text, no audio frame"),
            ({"audio": np.zeros((0, 3))}, "Input 0 .* There is no text"),
            ({"text": ["a", None, None], "vision": [None, np.ones((1, 5)), None]}, "Input 2 .* There is no text"),
        ],
        ids=[
            "nothing", "texts-and-one-clip", "text-and-3-d", "audio-and-vision", "no-clip", "none", "second-empty",
            "no-frame", "third-empty",
        ],
    )  # fmt: skip
    def test_counts_and_empty_clips(self, clip_processor, columns, words):
        with pytest.raises(ValueError, match=words):
            clip_processor(**columns)

    @both_streams
    @pytest.mark.parametrize("more", [-1, 2], ids=["narrow", "wide"])
    def test_wrong_width_names_modality_and_widths(self, clip_processor, name, more):
        clips = [random_frames(name, 2), np.zeros((4, SIZES[name] + more))]
        words = f"Input 1 .* The {name} features .* width {SIZES[name] + more} where {SIZES[name]} is expected"
        with pytest.raises(ValueError, match=words):
            clip_processor(["a", "b"], **{name: clips})

    @both_streams
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (np.zeros(3), r"must be an array of shape \(frames, features\).*1 dimension"),
            (torch.zeros(3), r"must be an array of shape \(frames, features\).*1 dimension"),
            (np.zeros((1, 1, 1, 3)), r"\(frames, features\).*4 dimension"),
            (7.5, r"\(frames, features\).*float"),
            ("speech.wav", r"\(frames, features\).*got str"),
            ({"array": [[1.0]]}, r"\(frames, features\).*got dict"),
            ([1.0, 2.0, 3.0], r"Input 0 .*must have the shape \(frames, \d\), got \(\)"),
            ([["a", "b"]], "Input 0 .*features are no array of numbers.*'a'"),
            (["speech.wav"], "Input 0 .*features are no array of numbers.*'speech.wav'"),
            ([[1, 2, 3], [1, 2]], "Input 0 .*features are no array of numbers"),
            ([None, [[1, 2, 3], [1, 2]]], "Input 1 .*features are no array of numbers"),
        ],
        ids=[
            "1-d", "1-d-tensor", "4-d", "number", "file", "dict", "flat-list", "letters", "files", "ragged",
            "second-ragged",
        ],
    )  # fmt: skip
    def test_what_are_no_frames(self, clip_processor, name, values, words):
        with pytest.raises(ValueError, match=f"(?s){words}") as raised:
            clip_processor(**{name: values})
        assert name in str(raised.value)

    @kinds
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (3, "`text` must be a string or a list of strings, got int"),
            (np.array(["a"]), "`text` must be a string or a list of strings, got ndarray"),
            ({"text": "a"}, "`text` must be .*got dict"),
            (["good", None, 3], "Text 2 must be a string, got int: 3"),
            ([None, None, float("nan")], "Text 2 must be a string, got float: nan"),
            (["good", None, b"bytes"], "Text 2 must be a string, got bytes"),
            ("\ud800 lone", "Text 0 is no valid Unicode: lone surrogate .*character 0"),
            ([None, None, "x\udfff"], "Text 2 is no valid Unicode: lone surrogate .*character 1"),
        ],
        ids=["number", "array", "dict", "number-inside", "nan-inside", "bytes-inside", "surrogate", "surrogate-inside"],
    )
    def test_what_is_no_text(self, processors, kind, text, words):
        count = len(text) if isinstance(text, list) else 1
        with pytest.raises(ValueError, match=words):
            processors[kind](text, [random_frames("audio", 2)] * count)

    @kinds
    @pytest.mark.parametrize("given_name", ["text", "audio", "vision"])
    @pytest.mark.parametrize("padding", ["wide", None, 3], ids=str)
    def test_unknown_padding(self, processors, clips, kind, given_name, padding):
        with pytest.raises(ValueError, match=f"`padding` must be .*got {padding!r}"):
            processors[kind](**{given_name: clips[given_name][0]}, padding=padding)

    @kinds
    @pytest.mark.parametrize("max_length", [2, 1, 0, -4, 5.0, "8"], ids=repr)
    def test_max_length_needs_room_for_a_token(self, processors, kind, max_length):
        processor = processors[kind]
        words = f"`max_length` must be an integer of at least 3 .*got {max_length!r}"
        with pytest.raises(ValueError, match=words):
            processor("text", max_length=max_length)
        with pytest.raises(ValueError, match=words):
            DashFusionProcessor(processor.tokenizer, max_length=max_length)
        assert processor("text", max_length=3, return_tensors="np")["input_ids"].shape[1] <= 3


class TestLengths:
    @both_streams
    @pytest.mark.parametrize("more", [-9, -1, 0, 1, 40], ids=["far-below", "below", "exactly", "one-over", "far-over"])
    def test_frames_are_cut_at_the_limit(self, clip_processor, name, more):
        clips = [random_frames(name, LIMITS[name] + more), None]
        check_frames(clip_processor(["a", "b"], **{name: clips}, return_tensors="np"), name, clips)

    @both_streams
    def test_without_truncation_too_many_frames_are_an_error(self, clip_processor, name):
        limit = LIMITS[name]
        fits = random_frames(name, limit)
        check_frames(clip_processor(**{name: fits}, truncation=False, return_tensors="np"), name, [fits])
        with pytest.raises(ValueError, match=f"Input 1 .* {limit + 1} {name} frames; at most {limit} are read"):
            clip_processor(**{name: [fits, random_frames(name, limit + 1)]}, truncation=False)

    @pytest.mark.parametrize("words", [0, 1, 7, 8, 9, 50])
    def test_texts_are_cut_at_the_limit(self, clip_processor, words):
        text = " ".join(["the"] * words)
        full = clip_processor.tokenizer(text)["input_ids"]
        assert len(full) == words + 2, "one token for each word"
        batch = clip_processor(text, max_length=10, return_tensors="np")
        assert batch["input_ids"][0].tolist() == (full if words <= 8 else [*full[:9], full[-1]])
        assert batch["attention_mask"].sum() == min(words + 2, 10)

    def test_without_truncation_texts_stay_whole(self, clip_processor):
        text = "the " * 300
        batch = clip_processor(text, truncation=False, return_tensors="np")
        assert batch["input_ids"].shape == (1, 302)

    def test_processor_has_a_limit_of_its_own(self, wordpiece):
        processor = DashFusionProcessor(wordpiece, max_length=6)
        assert processor("the " * 30, return_tensors="np")["input_ids"].shape == (1, 6)
        assert processor("the " * 30, max_length=9, return_tensors="np")["input_ids"].shape == (1, 9)

    @pytest.mark.parametrize(("allowed", "expected"), [(512, 128), (50, 50), (10**30, 128)], ids=str)
    def test_default_limit_is_the_tokenizers_and_at_most_128(self, wordpiece, bpe, allowed, expected):
        tokenizer = copy.deepcopy(wordpiece)
        tokenizer.model_max_length = allowed
        assert DashFusionProcessor(tokenizer).max_length == expected
        assert DashFusionProcessor(bpe, tokenizer_b=tokenizer).max_length == expected

    def test_default_feature_extractor_is_for_mosi(self, wordpiece):
        batch = DashFusionProcessor(wordpiece)(audio=np.ones((400, 5)), vision=np.ones((600, 20)), return_tensors="np")
        assert batch["audio_features"].shape == (1, 375, 5) and batch["vision_features"].shape == (1, 500, 20)


class TestPadding:
    @pytest.mark.parametrize("padding", [False, "do_not_pad"], ids=str)
    @kinds
    def test_none(self, processors, clips, kind, padding):
        processor = processors[kind]
        batch, padded = processor(**clips, padding=padding), processor(**clips, return_tensors="np")
        assert sorted(batch) == sorted(padded)
        for name, rows in batch.items():
            stream = name.partition("_")[0]
            mask = f"{stream}_attention_mask" if stream in SIZES else "attention_mask" + "_b" * name.endswith("_b")
            real = padded[mask].astype(bool)
            assert len(rows) == 5 and [len(row) for row in rows] == real.sum(1).tolist(), name
            for row, expected, kept in zip(rows, padded[name], real, strict=True):
                assert np.array_equal(row, expected[kept])

    def test_to_the_limit(self, clip_processor, clips):
        batch = clip_processor(**clips, padding="max_length", max_length=40, return_tensors="np")
        widths = [batch[name].shape[1] for name in (*TEXT_NAMES, *FRAME_NAMES)]
        assert widths == [40, 40, MAX_AUDIO, MAX_AUDIO, MAX_VISION, MAX_VISION]
        longest = clip_processor(**clips, padding="longest", return_tensors="np")
        for name, values in longest.items():
            assert np.array_equal(batch[name][:, : values.shape[1]], values)
            assert (batch[name][:, values.shape[1] :] == 0).all()

    def test_to_the_processors_own_limit(self, processors):
        batch = processors["two"]("good", padding="max_length", return_tensors="np")
        assert batch["input_ids"].shape == batch["span_ids_b"].shape == (1, 20)

    @pytest.mark.parametrize("multiple", [1, 4, 7])
    def test_to_a_multiple(self, clip_processor, multiple):
        columns = {"text": "the the the", "audio": random_frames("audio", 5), "vision": random_frames("vision", 2)}
        batch = clip_processor(**columns, pad_to_multiple_of=multiple, return_tensors="np")
        for name, length in (("input_ids", 5), ("audio_features", 5), ("vision_features", 2)):
            assert batch[name].shape[1] == -(-length // multiple) * multiple

    def test_to_a_multiple_stays_within_the_models_positions(self, clip_processor):
        columns = {"audio": random_frames("audio", MAX_AUDIO - 1), "vision": random_frames("vision", MAX_VISION)}
        batch = clip_processor(**columns, pad_to_multiple_of=8, return_tensors="np")
        assert batch["audio_features"].shape[1] == MAX_AUDIO and batch["vision_features"].shape[1] == MAX_VISION

    @pytest.mark.parametrize("side", ["a", "b"])
    def test_left_padding_tokenizers(self, bpe, unigram, clips, side):
        tokenizers = [copy.deepcopy(bpe), copy.deepcopy(unigram)]
        tokenizers["ab".index(side)].padding_side = "left"
        extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
        batch = DashFusionProcessor(tokenizers[0], extractor, tokenizers[1])(**clips, return_tensors="np")
        right = DashFusionProcessor(bpe, extractor, unigram)(**clips, return_tensors="np")
        left_names = [f"{name}{'_b' * (side == 'b')}" for name in ("input_ids", "attention_mask", "span_ids")]
        real = right[left_names[1]].astype(bool)
        for name in left_names:
            assert not np.array_equal(batch[name], right[name])
            for row, expected, kept in zip(batch[name], right[name], real, strict=True):
                assert row.tolist() == [*expected[~kept], *expected[kept]]
        for name in set(right) - set(left_names):
            assert np.array_equal(batch[name], right[name]), "frames, and the other tokenizer's, stay in front"

    def test_one_left_padding_tokenizer(self, wordpiece, clips):
        tokenizer = copy.deepcopy(wordpiece)
        tokenizer.padding_side = "left"
        extractor = DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)
        processor = DashFusionProcessor(tokenizer, extractor)
        batch = processor(**clips, return_tensors="np")
        lengths = batch["attention_mask"].sum(1)
        assert lengths[2] == 0 and len(set(lengths.tolist())) > 2
        for mask, length in zip(batch["attention_mask"], lengths, strict=True):
            assert mask.tolist() == [0] * (len(mask) - length) + [1] * length
        for name in SIZES:
            check_frames(batch, name, clips[name])


class TestPad:
    @kinds
    def test_of_rows_as_a_data_set_gives_them(self, processors, clips, kind):
        processor = processors[kind]
        columns = processor.encode_text(clips["text"])
        rows = []
        for i in range(5):
            row = {"label": 0.5, **{name: values[i] for name, values in columns.items()}}
            row |= {name: None if clips[name][i] is None else clips[name][i].tolist() for name in SIZES}
            rows.append(row)
        batch = processor.pad(rows, return_tensors="np")
        assert batch.pop("label").tolist() == [0.5] * 5
        check_same(batch, processor(**clips, return_tensors="np"))

    def test_columns_may_be_absent_or_empty(self, clip_processor, clips):
        text = {name: values[0] for name, values in clip_processor.encode_text(["Great!"]).items()}
        frames = clips["audio"][0]
        rows = [{"audio": frames}, {**text, "audio": None}, {"input_ids": [], "attention_mask": [], "audio": []}, text]
        batch = clip_processor.pad(rows, return_tensors="np")
        assert sorted(batch) == sorted(TEXT_NAMES + FRAME_NAMES[:2])
        assert (batch["attention_mask"].sum(1) > 0).tolist() == [False, True, False, True]
        check_frames(batch, "audio", [frames, None, None, None])

    def test_options(self, clip_processor):
        rows = [
            {**{n: v[0] for n, v in clip_processor.encode_text(["the"]).items()}, "audio": np.ones((5, AUDIO_SIZE))}
        ]

        def widths(**options):
            batch = clip_processor.pad(rows, return_tensors="np", **options)
            return [batch[name].shape[1] for name in ("input_ids", "audio_features")]

        assert widths() == [3, 5]
        assert widths(pad_to_multiple_of=4) == [4, 8]
        assert widths(padding="max_length", max_length=9) == [9, MAX_AUDIO]
        with pytest.raises(ValueError, match="'wide'"):
            widths(padding="wide")

    @kinds
    def test_text_is_encoded_without_padding(self, processors, clips, kind):
        columns = processors[kind].encode_text(clips["text"])
        assert list(columns) == processors[kind].text_input_names
        assert all(values[2] == [] for values in columns.values())
        assert all(set(row) == {1} for name in columns if "mask" in name for row in columns[name] if row)

    @kinds
    def test_text_is_encoded_up_to_max_length(self, processors, kind):
        processor = processors[kind]
        own, given_limit, whole = (
            {name: len(rows[0]) for name, rows in processor.encode_text(["the bar " * 40], **options).items()}
            for options in ({}, {"max_length": 7}, {"truncation": False})
        )
        assert max(own.values()) <= processor.max_length < min(whole.values())
        assert max(given_limit.values()) <= 7


frame_counts = st.one_of(st.none(), st.sampled_from([0, 1, MAX_VISION, MAX_AUDIO, MAX_AUDIO + 1]), st.integers(0, 20))
clip_rows = st.tuples(st.none() | st.text(max_size=40), frame_counts, frame_counts).filter(
    lambda row: row[0] is not None or row[1] or row[2]
)


class TestAnyClips:
    @kinds
    @given(rows=st.lists(clip_rows, min_size=1, max_size=5), max_length=st.integers(3, 24))
    def test_masks_padding_and_independence_of_the_batch(self, processors, kind, rows, max_length):
        processor = processors[kind]
        texts = [text for text, _, _ in rows]
        frames = {
            name: [None if row[at] is None else random_frames(name, row[at], seed=i) for i, row in enumerate(rows)]
            for at, name in ((1, "audio"), (2, "vision"))
        }
        batch = processor(texts, **frames, max_length=max_length, return_tensors="np")
        columns = processor.encode_text(texts, max_length=max_length)

        masks = {}
        if any(text is not None for text in texts):
            for suffix in ("", "_b") if kind == "two" else ("",):
                mask = masks["text" + suffix] = batch["attention_mask" + suffix]
                lengths = [len(ids) for ids in columns["input_ids" + suffix]]
                assert mask.sum(1).tolist() == lengths and max(lengths) <= max_length
                assert (batch["input_ids" + suffix][mask == 0] == 0).all()
                if kind == "two":
                    assert (batch["span_ids" + suffix][mask == 0] == -1).all()
        for name, clips in frames.items():
            lengths = [0 if clip is None else min(len(clip), LIMITS[name]) for clip in clips]
            assert (f"{name}_features" in batch) == (max(lengths) > 0)
            if max(lengths):
                mask = masks[name] = batch[f"{name}_attention_mask"]
                assert mask.sum(1).tolist() == lengths
                assert (batch[f"{name}_features"][mask == 0] == 0).all()

        for i, text in enumerate(texts):
            alone = processor(
                text, **{name: clips[i] for name, clips in frames.items()}, max_length=max_length, return_tensors="np"
            )
            for name, values in batch.items():
                stream = name.partition("_")[0]
                mask = masks[stream if stream in SIZES else "text" + "_b" * name.endswith("_b")][i].astype(bool)
                if name in alone:
                    assert np.array_equal(values[i][mask], alone[name][0]), name
                else:
                    assert not mask.any(), name
            assert set(alone) <= set(batch)

        features = [
            {
                **{name: column[i] for name, column in columns.items()},
                **{name: clips[i] for name, clips in frames.items()},
            }
            for i in range(len(rows))
        ]
        check_same(processor.pad(features, max_length=max_length, return_tensors="np"), batch)


class TestTwoTokenizers:
    def test_six_text_tensors_as_dyfulm_has_them(self, clip_processor_b, bpe, unigram, texts, clips):
        batch = clip_processor_b(texts, audio=clips["audio"][:4], return_tensors="np")
        expected = DyFuLMProcessor(bpe, unigram)(texts, max_length=clip_processor_b.max_length, return_tensors="np")
        assert len(expected) == 6 and list(expected) == clip_processor_b.text_input_names
        check_same({name: batch[name] for name in expected}, dict(expected))
        assert (batch["span_ids"] >= 0).any(axis=1).all(), "not trivially equal"
        assert clip_processor_b.model_input_names == [*expected, *FRAME_NAMES]

    def test_long_texts_are_cut_at_the_same_place_as_by_dyfulm(self, clip_processor_b, bpe, unigram, texts):
        expected = DyFuLMProcessor(bpe, unigram)(texts, max_length=12, return_tensors="np")
        check_same(clip_processor_b(texts, max_length=12, return_tensors="np"), expected)

    def test_text_of_none_keeps_the_other_rows(self, clip_processor_b, texts):
        audio = [random_frames("audio", 2)] * 5
        batch = clip_processor_b([texts[0], None, *texts[1:]], audio, return_tensors="np")
        expected = clip_processor_b(texts, return_tensors="np")
        for name, values in expected.items():
            assert np.array_equal(np.delete(batch[name], 1, axis=0), values)

    def test_one_tokenizer_gives_no_second_tokenisation(self, clip_processor, texts):
        assert list(clip_processor(texts)) == TEXT_NAMES and len(clip_processor.tokenizers) == 1

    def test_tokenizers_without_offsets_give_no_spans(self, clip_processor_b, texts, monkeypatch):
        monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False), raising=False)
        batch = clip_processor_b([*texts, None], [random_frames("audio", 1)] * 5, return_tensors="np")
        text = ["input_ids", "attention_mask", "input_ids_b", "attention_mask_b"]
        assert list(batch) == [*text, *FRAME_NAMES[:2]]
        assert all((batch[name][4] == 0).all() for name in text)


def shuffle_vocabulary(path):
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        first, second = list(vocabulary)[-2:]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    else:
        vocabulary[-2:] = vocabulary[:-3:-1]
    path.write_text(json.dumps(content))


class TestSaving:
    @pytest.mark.parametrize("how", [DashFusionProcessor, AutoProcessor], ids=lambda how: how.__name__)
    @kinds
    def test_round_trip_gives_the_same_tensors(self, processors, clips, tmp_path, kind, how):
        processor = processors[kind]
        processor.save_pretrained(tmp_path)
        loaded = how.from_pretrained(tmp_path)
        assert type(loaded) is DashFusionProcessor and loaded.max_length == processor.max_length
        assert loaded.model_input_names == processor.model_input_names
        check_same(loaded(**clips, return_tensors="np"), processor(**clips, return_tensors="np"))

    def test_one_tokenizer_stays_one(self, processors, clips, tmp_path):
        processors["one"].save_pretrained(tmp_path)
        loaded = AutoProcessor.from_pretrained(tmp_path)
        assert loaded.tokenizers == (loaded.tokenizer,)
        assert not [name for name in loaded(**clips) if name.endswith("_b")]

    def test_two_tokenizers_stay_two(self, processors, bpe, unigram, tmp_path):
        processors["two"].save_pretrained(tmp_path)
        assert (tmp_path / "tokenizer_b" / "tokenizer.json").is_file()
        loaded = AutoProcessor.from_pretrained(tmp_path)
        assert [t.get_vocab() for t in loaded.tokenizers] == [bpe.get_vocab(), unigram.get_vocab()]

    def test_two_equal_tokenizers_stay_two(self, bpe, texts, tmp_path):
        processor = DashFusionProcessor(bpe, tokenizer_b=bpe)
        processor.save_pretrained(tmp_path)
        loaded = AutoProcessor.from_pretrained(tmp_path)
        assert len(loaded.tokenizers) == 2
        check_same(loaded(texts, return_tensors="np"), processor(texts, return_tensors="np"))

    @kinds
    def test_statistics_survive(self, processors, tmp_path, kind):
        processor = processors[kind]
        processor.save_pretrained(tmp_path)
        loaded, original = AutoProcessor.from_pretrained(tmp_path).feature_extractor, processor.feature_extractor
        assert len(loaded.audio_mean) == loaded.audio_feature_size
        for field in ("audio_mean", "audio_std", "vision_mean", "vision_std"):
            assert getattr(loaded, field) == getattr(original, field), "to the last bit"
        for field in ("audio_feature_size", "vision_feature_size", "max_audio_length", "max_vision_length"):
            assert getattr(loaded, field) == getattr(original, field)

    @kinds
    def test_twice_and_from_a_loaded_one(self, processors, clips, tmp_path, kind):
        processor = processors[kind]
        expected = processor(**clips, return_tensors="np")
        processor.save_pretrained(tmp_path / "first")
        processor.save_pretrained(tmp_path / "first")
        loaded = AutoProcessor.from_pretrained(tmp_path / "first")
        loaded.save_pretrained(tmp_path / "second")
        check_same(AutoProcessor.from_pretrained(tmp_path / "second")(**clips, return_tensors="np"), expected)
        files = [sorted(p.relative_to(f) for p in f.rglob("*")) for f in (tmp_path / "first", tmp_path / "second")]
        assert files[0] == files[1]

    def test_one_tokenizer_over_two(self, processors, clips, tmp_path):
        processors["two"].save_pretrained(tmp_path)
        processors["one"].save_pretrained(tmp_path)
        loaded = AutoProcessor.from_pretrained(tmp_path)
        check_same(loaded(**clips, return_tensors="np"), processors["one"](**clips, return_tensors="np"))

    @kinds
    def test_max_length_may_change_on_loading(self, processors, tmp_path, kind):
        processors[kind].save_pretrained(tmp_path)
        loaded = DashFusionProcessor.from_pretrained(tmp_path, max_length=9)
        assert loaded.max_length == 9
        whole, cut = (loaded("the bar " * 30, truncation=t, return_tensors="np")["input_ids"] for t in (False, True))
        assert cut.shape[1] <= 9 < whole.shape[1]
        loaded.save_pretrained(tmp_path / "again")
        assert DashFusionProcessor.from_pretrained(tmp_path / "again").max_length == 9
        with pytest.raises(ValueError, match="`max_length` must be an integer of at least 3"):
            DashFusionProcessor.from_pretrained(tmp_path, max_length=2)

    @pytest.mark.parametrize(
        ("kind", "file", "name"),
        [
            ("one", "tokenizer.json", "tokenizer"),
            ("two", "tokenizer.json", "tokenizer"),
            ("two", "tokenizer_b/tokenizer.json", "tokenizer_b"),
        ],
        ids=["one", "two-a", "two-b"],
    )
    @pytest.mark.parametrize("how", [DashFusionProcessor, AutoProcessor], ids=lambda how: how.__name__)
    def test_changed_vocabulary_is_refused(self, processors, tmp_path, kind, file, name, how):
        processors[kind].save_pretrained(tmp_path)
        shuffle_vocabulary(tmp_path / file)
        with pytest.raises(ValueError, match=f"`{name}` is not the one"):
            how.from_pretrained(tmp_path)

    def test_missing_second_tokenizer_is_noticed(self, processors, tmp_path):
        processors["two"].save_pretrained(tmp_path)
        shutil.rmtree(tmp_path / "tokenizer_b")
        # from transformers itself where it notices, else from the comparison of the vocabularies
        with pytest.raises(ValueError, match=r"`tokenizer_b` is not the one|backend tokenizer"):
            DashFusionProcessor.from_pretrained(tmp_path)

    @kinds
    def test_from_a_hub_repository_in_the_cache(self, processors, clip_config, clips, tmp_path, kind):
        """The case in which a second tokenizer is easily lost."""
        repository = tmp_path / "models--acme--tiny"
        snapshot = repository / "snapshots" / ("a" * 40)
        processors[kind].save_pretrained(snapshot)
        clip_config("dyfulm" if kind == "two" else "bert").save_pretrained(snapshot)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
        loaded = DashFusionProcessor.from_pretrained("acme/tiny", cache_dir=tmp_path)
        check_same(loaded(**clips, return_tensors="np"), processors[kind](**clips, return_tensors="np"))

    def test_new_tokens_are_saved_with_the_processor(self, wordpiece, tmp_path):
        processor = DashFusionProcessor(copy.deepcopy(wordpiece))
        processor.save_pretrained(tmp_path)
        processor.tokenizer.add_tokens(["wonderfulest"])
        processor.save_pretrained(tmp_path)
        loaded = DashFusionProcessor.from_pretrained(tmp_path)
        assert loaded("wonderfulest")["input_ids"] == processor("wonderfulest")["input_ids"]
        assert len(loaded("wonderfulest")["input_ids"][0]) == 3

    def test_padding_side_survives(self, wordpiece, tmp_path):
        options = {**wordpiece.special_tokens_map, "padding_side": "left"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece.backend_tokenizer, **options)
        DashFusionProcessor(tokenizer).save_pretrained(tmp_path)
        batch = AutoProcessor.from_pretrained(tmp_path)(["the", "the bar was fine"], return_tensors="np")
        assert batch["attention_mask"][0, 0] == 0 and (batch["attention_mask"][:, -1] == 1).all()


class TestAsOtherProcessors:
    """Options in groups, and settings that saving does not change."""

    @pytest.fixture(params=["one tokenizer", "two tokenizers", "dyfulm"])
    def any_processor(self, request, clip_processor, clip_processor_b, processor):
        return {"one tokenizer": clip_processor, "two tokenizers": clip_processor_b, "dyfulm": processor}[request.param]

    def test_settings_before_and_after_saving(self, any_processor, tmp_path):
        before = any_processor.to_dict()
        any_processor.save_pretrained(tmp_path)
        assert any_processor.to_dict() == before
        assert type(any_processor).from_pretrained(tmp_path).to_dict() == before

    def test_groups_of_options(self, any_processor):
        texts = ["a good room", "good"]
        found = any_processor(
            texts, text_kwargs={"padding": "max_length", "max_length": 24}, common_kwargs={"return_tensors": "np"}
        )
        wanted = any_processor(texts, padding="max_length", max_length=24, return_tensors="np")
        assert found.keys() == wanted.keys() and found["input_ids"].shape == (2, 24)
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values)

    def test_of_the_text_alone(self, clip_processor, clips):
        wanted = clip_processor(**clips, return_tensors="np")
        found = clip_processor(**clips, text_kwargs={"pad_to_multiple_of": 16}, return_tensors="np")
        assert found["input_ids"].shape[1] % 16 == 0
        np.testing.assert_array_equal(found["audio_features"], wanted["audio_features"])

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"text_kwargs": {"stride": 2}}, "`text_kwargs` takes padding.* `stride` is none of them"),
         ({"common_kwargs": {"device": "cpu"}}, "`device` is none of them"),
         ({"max_length": 20, "text_kwargs": {"max_length": 30}}, "`max_length` is given twice: 20 and, in")],
    )  # fmt: skip
    def test_others_are_refused(self, any_processor, options, message):
        with pytest.raises(ValueError, match=message):
            any_processor(["good"], **options)
        with pytest.raises(TypeError, match="stride"):
            any_processor(["good"], stride=2)
