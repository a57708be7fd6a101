import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast

from hf_fusion import DyFuLMProcessor
from hf_fusion.data.tokenizers import train_tokenizer
from hf_fusion.models.processing_dyfulm import common_spans

KINDS = ("bpe", "unigram", "wordpiece")
AWKWARD = [
    "",
    "   \t\n ",
    "a",
    "😀",
    "👩‍👩‍👧‍👦 family",
    "e\u0301\u0301\u0301 combining",
    "שלום עולם, مرحبا بالعالم",
    "今天的早餐很好,但是房间太小。",
    "\u00a0\u2003non\u200bbreaking\ufeff",
    "ﬁne ½ ™ ①",
    "\x00\x01control\x7f",
    "[CLS] [SEP] [PAD] </s>",
    "don't   STOP!!!   <br/>https://x.y/z?q=1",
]


@pytest.fixture(scope="module")
def tokenizers(corpus):
    return {kind: train_tokenizer([*corpus, *AWKWARD], kind, 500) for kind in KINDS}


def characters(text, offsets):
    """The characters that are not white space inside the given offsets."""
    return {i for start, end in offsets for i in range(start, end) if not text[i].isspace()}


def check_spans(processor, text):
    """Everything that must hold for the spans of one text."""
    encoded = processor(text, truncation=False)
    sides = []
    for tokenizer, suffix in zip(processor.tokenizers, ("", "_b"), strict=True):
        raw = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        spans, special = np.array(encoded["span_ids" + suffix]), np.array(raw["special_tokens_mask"], dtype=bool)
        assert encoded["input_ids" + suffix] == raw["input_ids"]
        assert encoded["attention_mask" + suffix] == [1] * len(spans)
        assert (spans[special] == -1).all()
        sides.append((spans[~special], np.array(raw["offset_mapping"]).reshape(-1, 2)[~special]))
    (spans_a, offsets_a), (spans_b, offsets_b) = sides
    if len(spans_a) == 0 or len(spans_b) == 0 or (spans_a < 0).all():
        assert (spans_a < 0).all() and (spans_b < 0).all()
        assert not (characters(text, offsets_a) and characters(text, offsets_b))
        return 0
    for spans in (spans_a, spans_b):
        assert (np.diff(spans) >= 0).all(), "non-decreasing"
        assert set(spans.tolist()) == set(range(spans.max() + 1)), "every real token in a span, no gap"
    assert spans_a.max() == spans_b.max(), "both sides have the same number of spans"
    both = characters(text, offsets_a) & characters(text, offsets_b)
    covered = []
    for span in range(spans_a.max() + 1):
        ours, theirs = characters(text, offsets_a[spans_a == span]), characters(text, offsets_b[spans_b == span])
        covered.append((ours | theirs) & both)
        # a character that both tokenisations cover lies in the same span on both sides
        assert ours & both == theirs & both
    assert set().union(*covered) == both
    return spans_a.max() + 1


class TestSpans:
    @pytest.mark.parametrize("pair", [(a, b) for a in KINDS for b in KINDS], ids="-".join)
    @pytest.mark.parametrize("text", AWKWARD)
    def test_of_awkward_texts(self, tokenizers, pair, text):
        check_spans(DyFuLMProcessor(tokenizers[pair[0]], tokenizers[pair[1]]), text)

    @given(text=st.text(max_size=80), pair=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)))
    def test_of_any_unicode(self, tokenizers, text, pair):
        check_spans(DyFuLMProcessor(tokenizers[pair[0]], tokenizers[pair[1]]), text)

    @given(
        words=st.lists(
            st.sampled_from(["great", "not", "bad", "😀", "très", "早餐", "a1-b2", "...", "שלום"]), min_size=1
        )
    )
    def test_of_mixed_words(self, tokenizers, words):
        assert check_spans(DyFuLMProcessor(tokenizers["bpe"], tokenizers["unigram"]), " ".join(words)) >= 1

    def test_are_words_where_both_cut_at_words(self, tokenizers):
        text = "The breakfast was not good"
        assert check_spans(DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"]), text) == 5

    def test_are_tokens_where_the_tokenizers_are_equal(self, tokenizers):
        encoded = DyFuLMProcessor(tokenizers["bpe"])("The breakfast was comfortabler!")
        assert encoded["span_ids"] == encoded["span_ids_b"] == [-1, *range(len(encoded["input_ids"]) - 2), -1]

    def test_by_hand(self):
        # a: "ab cd" as ab|cd     b: as a|b c|d -> only the whole text has boundaries in common
        a = np.array([[0, 0], [0, 2], [3, 5], [0, 0]]), np.array([True, False, False, True])
        b = np.array([[0, 1], [1, 4], [4, 5]]), np.array([False, False, False])
        spans_a, spans_b = common_spans("ab cd", a, b)
        assert spans_a.tolist() == [-1, 0, 0, -1] and spans_b.tolist() == [0, 0, 0]
        # b: as a|b|cd -> two spans, ab and cd
        b = np.array([[0, 1], [1, 2], [2, 5]]), np.array([False, False, False])
        spans_a, spans_b = common_spans("ab cd", a, b)
        assert spans_a.tolist() == [-1, 0, 1, -1] and spans_b.tolist() == [0, 0, 1]

    def test_text_that_one_side_does_not_see_joins_its_neighbour(self):
        a = np.array([[0, 1], [1, 2], [2, 3]]), np.zeros(3, dtype=bool)
        b = np.array([[0, 1], [2, 3]]), np.zeros(2, dtype=bool)  # b drops the middle character
        spans_a, spans_b = common_spans("xyz", a, b)
        assert spans_a.tolist() == [0, 0, 1] and spans_b.tolist() == [0, 1]


class TestTruncation:
    @given(text=st.text(max_size=200), limit=st.integers(3, 20), pair=st.tuples(*[st.sampled_from(KINDS)] * 2))
    def test_cuts_both_at_the_same_character(self, tokenizers, text, limit, pair):
        processor = DyFuLMProcessor(tokenizers[pair[0]], tokenizers[pair[1]])
        cut, full = processor(text, max_length=limit), processor(text, truncation=False)
        if max(len(full["input_ids"]), len(full["input_ids_b"])) <= limit:
            assert cut["input_ids"] == full["input_ids"] and cut["span_ids_b"] == full["span_ids_b"]
            return
        lengths = [len(cut["input_ids" + suffix]) for suffix in ("", "_b")]
        assert max(lengths) <= limit
        # some beginning of the text gives exactly these tokens, on both sides
        beginnings = [processor(text[:end], truncation=False) for end in range(len(text))]
        assert any(all(b["input_ids" + s] == cut["input_ids" + s] for s in ("", "_b")) for b in beginnings)

    def test_keeps_as_much_as_fits_up_to_a_common_boundary(self, tokenizers):
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"])
        words = "The bar was not good but the room was wonderful and the staff was nice".split()  # noqa: SIM905
        cut = processor(" ".join(words), max_length=10)

        def fits(count):
            whole = processor(" ".join(words[:count]), truncation=False)
            return max(len(whole["input_ids"]), len(whole["input_ids_b"])) <= 10

        count = max(n for n in range(len(words)) if fits(n))
        assert cut["input_ids"] == processor(" ".join(words[:count]), truncation=False)["input_ids"]
        assert cut["span_ids"][-1] == -1

    @pytest.mark.parametrize("unit", ["The breakfast was not good. ", "x", "😀", "早餐", "\u0301", " "])
    def test_of_a_hundred_thousand_characters(self, tokenizers, unit):
        text = (unit * 100_000)[:100_000]
        encoded = DyFuLMProcessor(tokenizers["bpe"], tokenizers["unigram"])(text, max_length=64)
        assert max(len(encoded["input_ids"]), len(encoded["input_ids_b"])) <= 64

    def test_needs_room_for_one_token(self, tokenizers):
        with pytest.raises(ValueError, match="at least 3"):
            DyFuLMProcessor(tokenizers["bpe"], tokenizers["unigram"])("text", max_length=2)
        with pytest.raises(ValueError, match="`max_length`"):
            DyFuLMProcessor(tokenizers["bpe"], max_length=0)


class TestCall:
    def test_pads_each_side_to_its_own_longest(self, processor, texts):
        batch = processor(texts, return_tensors="pt")
        rows = [processor(text) for text in texts]
        assert list(batch) == processor.model_input_names and len(batch) == 6
        for suffix in ("", "_b"):
            width = max(len(row["input_ids" + suffix]) for row in rows)
            for name, fill in (("input_ids", 0), ("attention_mask", 0), ("span_ids", -1)):
                values = batch[name + suffix]
                assert values.shape == (len(texts), width)
                for i, row in enumerate(rows):
                    padding = [fill] * (width - len(row[name + suffix]))
                    assert values[i].tolist() == row[name + suffix] + padding

    def test_pad_equals_call(self, processor, texts):
        expected = processor(texts, return_tensors="np")
        for rows in ([dict(processor(text)) for text in texts], dict(processor(texts, padding=False))):
            padded = processor.pad(rows, return_tensors="np")
            assert all((padded[name] == expected[name]).all() for name in expected)

    def test_padding_options(self, processor, texts):
        assert processor(texts, padding="max_length", max_length=90, return_tensors="np")["span_ids_b"].shape == (4, 90)
        assert processor(texts, pad_to_multiple_of=16, return_tensors="np")["input_ids"].shape[1] % 16 == 0
        assert len({len(row) for row in processor(texts, padding=False)["input_ids"]}) > 1
        with pytest.raises(ValueError, match="'wide'"):
            processor(texts, padding="wide")

    def test_padding_side_is_the_tokenizers(self, processor, texts):
        processor.tokenizer.padding_side = "left"
        try:
            batch = processor(texts, return_tensors="np")
        finally:
            processor.tokenizer.padding_side = "right"
        assert (batch["attention_mask"][:, -1] == 1).all() and (batch["attention_mask_b"][:, 0] == 1).all()
        assert ((batch["span_ids"] == -1) | (batch["attention_mask"] == 1)).all()

    def test_single_text_gives_unbatched_lists(self, processor):
        assert isinstance(processor("good")["input_ids"][0], int)
        assert processor("good", return_tensors="pt")["input_ids"].dim() == 2

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "NoneType"),
            (3, "int"),
            (["good", None], "Text 1 must be a string, got NoneType"),
            (["good", float("nan")], "Text 1 must be a string, got float"),
            ("\ud800 lone", "lone surrogate.*character 0"),
            (["ok", "x\udfff"], "Text 1 .*character 1"),
        ],
    )
    def test_bad_input(self, processor, text, words):
        with pytest.raises(ValueError, match=words):
            processor(text)

    def test_row_without_a_key(self, processor):
        with pytest.raises(ValueError, match="Row 0 has no `attention_mask`"):
            processor.pad([{"input_ids": [1]}])

    def test_tokenizers_without_offsets_give_no_spans(self, bpe, texts, monkeypatch):
        monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False), raising=False)
        processor = DyFuLMProcessor(bpe, bpe)
        batch = processor(texts, max_length=12, return_tensors="np")
        assert sorted(batch) == ["attention_mask", "attention_mask_b", "input_ids", "input_ids_b"]
        assert batch["input_ids"].shape == (4, 12)


class TestSaving:
    def test_round_trip(self, processor, texts, tmp_path):
        processor.max_length = 77
        processor.save_pretrained(tmp_path)
        loaded = AutoProcessor.from_pretrained(tmp_path)
        assert type(loaded) is DyFuLMProcessor and loaded.max_length == 77
        expected = processor(texts, return_tensors="np")
        assert all((values == expected[name]).all() for name, values in loaded(texts, return_tensors="np").items())
        loaded.save_pretrained(tmp_path / "again")
        assert (
            AutoProcessor.from_pretrained(tmp_path / "again").tokenizer_b.get_vocab()
            == processor.tokenizer_b.get_vocab()
        )

    def test_equal_tokenizers(self, bpe, tmp_path):
        DyFuLMProcessor(bpe).save_pretrained(tmp_path)
        loaded = DyFuLMProcessor.from_pretrained(tmp_path)
        assert loaded("great")["input_ids"] == loaded("great")["input_ids_b"]

    def test_missing_second_tokenizer_is_noticed(self, processor, tmp_path):
        processor.save_pretrained(tmp_path)
        shutil.rmtree(tmp_path / "tokenizer_b")
        # from transformers itself where it notices, else from the comparison of the vocabularies
        with pytest.raises(ValueError, match=r"`tokenizer_b` is not the one|backend tokenizer"):
            DyFuLMProcessor.from_pretrained(tmp_path)

    def test_changed_vocabulary_is_noticed(self, processor, tmp_path):
        processor.save_pretrained(tmp_path)
        path = tmp_path / "tokenizer.json"
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        first, second = list(vocabulary)[-2:]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="`tokenizer` is not the one"):
            DyFuLMProcessor.from_pretrained(tmp_path)

    @pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "xlm-roberta"])
    def test_a_folder_without_a_vocabulary(self, kind, bpe, tmp_path):
        """Of which transformers makes a tokenizer that reads every word as unknown, and says nothing."""
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        empty = AutoTokenizer.from_pretrained(tmp_path)
        for tokenizers, name in (((empty,), "tokenizer"), ((bpe, empty), "tokenizer_b")):
            with pytest.raises(ValueError, match=f"`{name}` has no vocabulary: it knows special tokens alone"):
                DyFuLMProcessor(*tokenizers)


class TestWindows:
    @staticmethod
    def check(processor, text, limit):
        """Everything that must hold for the windows of one text; returns their number."""
        whole = processor(text, truncation=False)
        rows = processor(text, max_length=limit, padding=False, return_windows=True)
        count = len(rows["input_ids"])
        assert rows["window_texts"] == [0] * count
        if max(len(whole["input_ids"]), len(whole["input_ids_b"])) <= limit:
            assert count == 1 and all(rows[name] == [whole[name]] for name in processor.model_input_names)
            return 1
        last_spans = []
        for suffix in ("", "_b"):
            ids = whole["input_ids" + suffix]
            special = len(processor.tokenizer("")["input_ids"]) // 2
            real, end = ids[special : len(ids) - special], 0
            for window, mask, spans in zip(
                *(rows[name + suffix] for name in ("input_ids", "attention_mask", "span_ids")), strict=True
            ):
                assert len(window) <= limit and mask == [1] * len(window) and len(spans) == len(window)
                assert window[:special] == ids[:special] and window[len(window) - special :] == ids[-special:]
                assert all(span == -1 for span in (*spans[:special], *spans[len(spans) - special :]))
                own = window[special : len(window) - special]
                place = next(i for i in range(end, -1, -1) if real[i : i + len(own)] == own)
                end = max(end, place + len(own))
                inner = spans[special : len(spans) - special]
                if inner and inner[0] >= 0:
                    assert sorted(set(inner)) == list(range(inner[-1] + 1)) and inner == sorted(inner)
                last_spans.append(max(inner, default=-1))
            assert end == len(real), "nothing is lost"
        assert last_spans[:count] == last_spans[count:], "both sides have the same spans"
        return count

    @given(
        text=st.text(max_size=150) | st.lists(st.sampled_from(["great", "not", "😀", "très", "早餐", "...", "x" * 40]))
        .map(" ".join),
        limit=st.integers(3, 20),
        pair=st.tuples(*[st.sampled_from(KINDS)] * 2),
    )  # fmt: skip
    def test_of_any_unicode(self, tokenizers, text, limit, pair):
        self.check(DyFuLMProcessor(tokenizers[pair[0]], tokenizers[pair[1]]), text, limit)

    @pytest.mark.parametrize("text", AWKWARD)
    @pytest.mark.parametrize("limit", [3, 5, 40])
    def test_of_awkward_texts(self, tokenizers, text, limit):
        self.check(DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"]), text * 3, limit)

    @pytest.mark.parametrize("unit", ["The breakfast was not good. ", "x", "😀", "e\u0301", " "])
    def test_of_a_hundred_thousand_characters(self, tokenizers, unit, monkeypatch):
        """Each tokenizer reads the text once."""
        calls, call = [], PreTrainedTokenizerFast.__call__
        monkeypatch.setattr(
            PreTrainedTokenizerFast, "__call__", lambda self, *a, **k: calls.append(1) or call(self, *a, **k)
        )
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["unigram"])
        rows = processor((unit * 100_000)[:100_000], max_length=64, padding=False, return_windows=True)
        assert len(calls) == 2
        sides = [rows["input_ids"], rows["input_ids_b"]]
        assert max(len(window) for side in sides for window in side) <= 64
        fullest = max(sum(map(len, side)) for side in sides)
        assert len(rows["window_texts"]) <= 1 + fullest / 50, "all but the last one are full"

    def test_overlap_by_an_eighth_at_common_boundaries(self, tokenizers):
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"])
        text = "The breakfast was not good and the room was cold. " * 20
        rows, spans = processor(text, max_length=42, padding=False, return_windows=True), processor.spans_of(text)
        firsts = DyFuLMProcessor(*processor.tokenizers, max_length=42).first_spans_of(text)
        assert firsts[0] == 0 and len(firsts) == len(rows["window_texts"])
        for number, (first, second) in enumerate(pairwise(firsts)):
            last = first + max(rows["span_ids"][number])
            assert first < second <= last + 1 and 0 < last + 1 - second <= 5
        assert firsts[-1] + max(rows["span_ids"][-1]) == len(spans) - 1

    def test_a_longer_beginning_fills_the_same_windows(self, tokenizers):
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"])
        text = "The breakfast was not good and the room was cold. " * 20
        short, long = (
            processor(value, max_length=30, padding=False, return_windows=True) for value in (text[:500], text)
        )
        count = len(short["window_texts"]) - 1
        assert count > 2 and short["input_ids_b"][:count] == long["input_ids_b"][:count]

    def test_of_many_texts(self, processor, texts):
        given = ["", *texts, "good " * 50]
        rows = processor(
            given, max_length=12, padding=False, return_windows=True, return_truncated=True, return_kept=True
        )
        counts = [self.check(processor, text, 12) for text in given]
        assert rows["window_texts"] == [i for i, count in enumerate(counts) for _ in range(count)]
        assert rows["truncated"] == [False] * 6 and rows["kept"] == [1] * 6
        batch = processor(given, max_length=12, return_windows=True, return_tensors="pt")
        assert batch["window_texts"].shape == (sum(counts),) and batch["input_ids"].shape[0] == sum(counts)
        assert processor([], padding=False, return_windows=True)["window_texts"] == []

    def test_rows_of_a_data_set_are_texts(self, processor, texts):
        processor.max_length = 12
        given = [*texts, "good " * 50]
        encoded = processor.encode_text(given, return_windows=True)
        assert all(len(values) == len(given) for values in encoded.values())
        rows = [{name: values[i] for name, values in encoded.items()} for i in range(len(given))]
        padded, expected = (
            processor.pad([{**row, "labels": i} for i, row in enumerate(rows)], return_tensors="np"),
            processor(given, return_windows=True, return_tensors="np"),
        )
        assert padded.pop("labels").tolist() == list(range(len(given)))
        assert set(padded) == set(expected) and all((padded[name] == expected[name]).all() for name in expected)
        # a batch without a long text is an ordinary one
        short = processor.encode_text(["good", "bad"], return_windows=True)
        assert "window_texts" not in processor.pad(short) and short["window_lengths"] == [[3], [3]]

    def test_tokenizers_without_offsets(self, bpe, wordpiece, texts, monkeypatch):
        processor = DyFuLMProcessor(bpe, wordpiece)
        monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False), raising=False)
        given = [*texts, "good " * 50]
        rows = processor(given, max_length=12, padding=False, return_windows=True)
        for suffix, tokenizer in (("", bpe), ("_b", wordpiece)):
            for i, text in enumerate(given):
                own = [ids[1:-1] for ids, number in zip(rows["input_ids" + suffix], rows["window_texts"], strict=True)
                       if number == i]  # fmt: skip
                assert max(map(len, own)) <= 10
                assert [id for ids in own for id in ids] == tokenizer(text)["input_ids"][1:-1], "in order, once"
        cut = processor(given, max_length=12, padding=False, return_truncated=True, return_kept=True)
        assert [share < 1 for share in cut["kept"]] == cut["truncated"] and cut["truncated"][-1]
        counts = [len(tokenizer(given[-1])["input_ids"]) for tokenizer in (bpe, wordpiece)]
        assert cut["kept"][-1] == pytest.approx(12 / max(counts))

    def test_a_side_without_tokens(self, tokenizers, monkeypatch):
        """One tokenizer reads nothing: the windows of the other have no spans."""
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"])
        read = DyFuLMProcessor._read

        def nothing_on_side_b(self, texts):
            return [(a, (ids[:1] + ids[-1:], offsets[[0, -1]], special[[0, -1]])) for a, (ids, offsets, special) in
                    read(self, texts)]  # fmt: skip

        monkeypatch.setattr(DyFuLMProcessor, "_read", nothing_on_side_b)
        rows = processor("The bed was good. " * 9, max_length=10, padding=False, return_windows=True)
        assert len(rows["window_texts"]) > 3 and {len(ids) for ids in rows["input_ids_b"]} == {2}
        assert {span for spans in rows["span_ids"] for span in spans} == {-1}

    def test_how_much_is_cut(self, tokenizers):
        processor = DyFuLMProcessor(tokenizers["bpe"], tokenizers["wordpiece"])
        text = "The breakfast was not good. " * 10
        cut = processor([text, "good"], max_length=16, padding=False, return_kept=True)
        assert cut["kept"][1] == 1
        beginning = text[: round(cut["kept"][0] * len(text))]
        assert processor(beginning, truncation=False)["input_ids"] == cut["input_ids"][0]
        assert processor.spans_of(text) != processor.spans_of(text, "cut") or processor.max_length > 100
