"""Rows that lose what masks do not keep."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, List, Value
from golden import GOLDEN, IDS, LENGTHS, NOTES, PADDED

from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor, DyFuLMProcessor, FusionCollator
from hf_fusion.architectures.clips import encode_clips
from hf_fusion.architectures.outputs import compute_outputs
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.data.protocols import PROTOCOLS, apply_masks, keep_masks, maskable_lengths
from hf_fusion.utils.errors import DataError

FEATURES = Features(
    id=Value("string"), text=Value("string"), audio=Array2D((None, 3), "float32"),
    vision=Array2D((None, 5), "float32"), label=Value("float32"),
)  # fmt: skip


@pytest.fixture
def rows(clips):
    """Five clips, four of which lack a modality or two."""
    streams = {
        name: [np.zeros((0, FEATURES[name].shape[1])) if frames is None else frames for frames in clips[name]]
        for name in ("audio", "vision")
    }
    columns = {"id": list("abcde"), "text": clips["text"], **streams, "label": [0.0] * 5}
    return Dataset.from_dict(columns, features=FEATURES)


@pytest.fixture
def encoded(rows, clip_processor):
    return encode_clips(rows, clip_processor)


def golden_rows():
    """The inputs of the golden file as encoded rows."""
    columns = {"input_ids": GOLDEN["inputs.text_ids"].astype(int), "attention_mask": GOLDEN["inputs.text_attention"]}
    rows = {name: [row[:n] for row, n in zip(values, LENGTHS["text"], strict=True)] for name, values in columns.items()}
    for name in ("audio", "vision"):
        rows[name] = [row[:n] for row, n in zip(GOLDEN[f"inputs.{name}"], LENGTHS[name], strict=True)]
    features = Features(
        id=Value("string"), input_ids=List(Value("int64")), attention_mask=List(Value("int64")),
        audio=Array2D((None, 4), "float32"), vision=Array2D((None, 3), "float32"),
    )  # fmt: skip
    return Dataset.from_dict({"id": IDS, **rows}, features=features)


@pytest.mark.parametrize(
    ("protocol", "condition", "seed", "key", "place"),
    [("tfr", f"{i / 10:.1f}", (111, 1111, 11111), "A.{}", (0, i)) for i in range(11)]
    + [("lnln", f"{i / 10:.1f}", 1111, "B.eval1111.{}", (i,)) for i in range(10)]
    + [("cms", name, 1111, "F.{}_seed1111", (i,)) for i, name in enumerate(NOTES["F.patterns"][:7])],
)
def test_inputs_of_the_published_codes(wordpiece, protocol, condition, seed, key, place):
    processor = DashFusionProcessor(wordpiece, DashFusionFeatureExtractor(4, 3, 20, 15), max_length=12)
    encoded = golden_rows()
    lengths = maskable_lengths(encoded, processor)
    assert lengths == LENGTHS
    masks = keep_masks(protocol, condition, lengths, "exact", seed, "test", IDS, PADDED)
    batch = FusionCollator(processor, padding="max_length")(list(apply_masks(encoded, masks, processor, "exact")))
    assert np.array_equal(batch["input_ids"], GOLDEN[key.format("text_ids")][place])
    assert np.array_equal(batch["attention_mask"], GOLDEN["inputs.text_attention"])
    for name in ("audio", "vision"):
        published = GOLDEN[key.format(name)][place]
        if protocol == "cms":  # its arrays are not standardised
            published = np.where(np.isfinite(published), published, 0)
        assert np.array_equal(batch[f"{name}_features"], published)


def test_lost_parts(encoded, clip_processor):
    unknown, special = clip_processor.tokenizer.unk_token_id, clip_processor.tokenizer.all_special_ids
    masks = keep_masks("lnln", "0.5", maskable_lengths(encoded, clip_processor), "sound", 1, "test", encoded["id"])
    damaged = apply_masks(encoded, masks, clip_processor)
    assert damaged.features == encoded.features and damaged.num_rows == 5
    for i, (before, after) in enumerate(zip(encoded, damaged, strict=True)):
        for name in set(encoded.column_names) - {"input_ids", "attention_mask", "token_type_ids", "audio", "vision"}:
            assert after[name] == before[name]
        words = np.array(before["input_ids"]), np.array(after["input_ids"])
        if masks["text"][i].any():
            is_lost = ~masks["text"][i]
            assert (words[1][is_lost] == unknown).all() and (words[1][~is_lost] == words[0][~is_lost]).all()
            assert words[0][0] in special and words[1][0] == words[0][0]
        for name in ("audio", "vision"):
            frames = np.array(before[name], np.float32), np.array(after[name], np.float32)
            if masks[name][i].any():
                assert np.array_equal(frames[1], np.where(masks[name][i][:, None], frames[0], 0))
            else:
                assert len(frames[1]) == 0


def test_a_lost_frame_is_one_that_the_model_reads_as_zeros(rows, clip_processor):
    extractor = clip_processor.feature_extractor
    extractor.fit("audio", [row for row in rows.with_format("numpy")["audio"] if len(row)])
    encoded = encode_clips(rows, clip_processor)
    lengths = maskable_lengths(encoded, clip_processor)
    masks = keep_masks("lnln", "0.5", lengths, "exact", 1, "test", encoded["id"])
    damaged = apply_masks(encoded, masks, clip_processor, "sound").with_format("numpy")
    (frames,) = extractor.prepare("audio", [damaged[0]["audio"]])
    kept = masks["audio"][0]
    assert 0 < kept.sum() < len(kept)
    assert np.abs(frames[~kept]).max() < 1e-6 < np.abs(frames[kept]).min()


@pytest.mark.parametrize("mode", ["sound", "exact"])
def test_a_modality_that_is_lost_as_a_whole(encoded, clip_processor, mode):
    lengths = maskable_lengths(encoded, clip_processor)
    masks = keep_masks("fixed", "audio", lengths, mode, 0, "test", encoded["id"])
    batch = FusionCollator(clip_processor)(list(apply_masks(encoded.select([0]), _first(masks), clip_processor, mode)))
    if mode == "sound":
        assert sorted(batch) == ["audio_attention_mask", "audio_features", "labels"]
        return
    assert not batch["vision_features"].any() and batch["vision_attention_mask"].all()
    ids = np.array(encoded[0]["input_ids"])
    assert batch["input_ids"].tolist() == [[ids[0], *[100] * (len(ids) - 2), ids[-1]]], "special tokens stay"


def _first(masks):
    return {name: kept[:1] for name, kept in masks.items()}


def test_a_clip_with_nothing_left_is_blank(encoded, clip_processor, clip_model):
    """The fourth clip has no audio: in the subset of audio alone it has nothing that can be told apart."""
    lengths = maskable_lengths(encoded, clip_processor)
    masks = keep_masks("fixed", "audio", lengths, "sound", 0, "test", encoded["id"])
    damaged = apply_masks(encoded, masks, clip_processor)
    row = damaged[3]
    assert set(row["input_ids"]) <= set(clip_processor.tokenizer.all_special_ids) and not row["vision"]
    assert np.isfinite(compute_outputs(clip_model(), clip_processor, damaged)["logits"]).all()


def test_every_condition_has_outputs(encoded, clip_processor, clip_model):
    """From rows in any order, and in batches of any size."""
    model, lengths = clip_model(), maskable_lengths(encoded, clip_processor)
    clean = compute_outputs(model, clip_processor, encoded)["logits"]
    for protocol in PROTOCOLS.values():
        condition = protocol.conditions[-1]
        masks = keep_masks(protocol, condition, lengths, "sound", 3, "test", encoded["id"])
        outputs = compute_outputs(model, clip_processor, apply_masks(encoded, masks, clip_processor))["logits"]
        assert not np.allclose(outputs, clean, atol=1e-3)
    turned = apply_masks(encoded.select(range(4, -1, -1)), {n: kept[::-1] for n, kept in masks.items()}, clip_processor)
    assert np.allclose(compute_outputs(model, clip_processor, turned, 1)["logits"][::-1], outputs, atol=1e-5)


def test_frames_beyond_the_limit_have_no_mask(clip_processor):
    rng = np.random.default_rng(0)
    rows = {"id": ["a"], "text": ["good"], "audio": [rng.normal(size=(30, 3))], "vision": [rng.normal(size=(4, 5))]}
    encoded = encode_clips(Dataset.from_dict({**rows, "label": [0.0]}, features=FEATURES), clip_processor)
    lengths = maskable_lengths(encoded, clip_processor)
    assert lengths["audio"] == [12] and lengths["vision"] == [4]
    masks = keep_masks("lnln", "0.5", lengths, "sound", 1, "test", ["a"])
    damaged = apply_masks(encoded, masks, clip_processor)
    assert compute_shape(damaged, clip_processor) == compute_shape(encoded, clip_processor) == (1, 12, 3)


def compute_shape(rows, processor):
    return tuple(FusionCollator(processor)(list(rows))["audio_features"].shape)


@pytest.mark.parametrize("kind", ["reviews", "clips"])
def test_two_tokenisations_lose_the_same_words(bpe, unigram, clip_processor_b, corpus, kind):
    texts = corpus[:20]
    if kind == "reviews":
        processor = DyFuLMProcessor(bpe, unigram, max_length=60)
        encoded = encode_reviews(Dataset.from_dict({"id": list(map(str, range(20))), "text": texts}), processor)
    else:
        processor = clip_processor_b
        rows = {"id": list(map(str, range(20))), "text": texts, "label": [0.0] * 20}
        rows |= {"audio": [np.ones((3, 3))] * 20, "vision": [np.ones((3, 5))] * 20}
        encoded = encode_clips(Dataset.from_dict(rows, features=FEATURES), processor)
    masks = keep_masks("lnln", "0.5", maskable_lengths(encoded, processor), "sound", 1, "test", encoded["id"])
    damaged = apply_masks(encoded, masks, processor)
    shares = []
    for before, after, kept in zip(encoded, damaged, masks["text"], strict=True):
        lost = []
        for suffix in ("", "_b"):
            ids, own = np.array(before[f"input_ids{suffix}"]), np.array(after[f"input_ids{suffix}"])
            spans = np.array(before[f"span_ids{suffix}"])
            assert np.array_equal(ids[spans < 0], own[spans < 0]), "special tokens stay"
            changed = set(spans[ids != own].tolist())
            assert not changed & set(spans[(ids == own) & (ids != processor.tokenizers[0].unk_token_id)].tolist())
            lost.append(changed)
        assert lost[0] == lost[1] <= set(np.flatnonzero(~kept[1:-1]))
        shares.append(len(lost[0]) / (max(before["span_ids"]) + 1))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_a_review_keeps_its_length(bpe, unigram, make_model):
    """A text that loses all its words cannot be absent where there is nothing else."""
    processor = DyFuLMProcessor(bpe, unigram, max_length=60)
    encoded = encode_reviews(Dataset.from_dict({"id": ["a", "b"], "text": ["The bed was good.", "Fine"]}), processor)
    masks = keep_masks("tfr", "1.0", maskable_lengths(encoded, processor), "sound", 1, "test", encoded["id"])
    damaged = apply_masks(encoded, masks, processor)
    for before, after in zip(encoded, damaged, strict=True):
        for name, tokenizer in zip(("input_ids", "input_ids_b"), processor.tokenizers, strict=True):
            assert len(after[name]) == len(before[name])
            assert set(after[name]) <= {*tokenizer.all_special_ids}
    with torch.no_grad():
        assert np.isfinite(compute_outputs(make_model(), processor, damaged)["logits"]).all()


def test_texts_that_cannot_be_erased(bpe, unigram, wordpiece):
    processor = DyFuLMProcessor(bpe, unigram, max_length=60)
    reviews = encode_reviews(Dataset.from_dict({"id": ["a"], "text": ["The bed was good."]}), processor)
    masks = {"text": [np.ones(5, bool)]}
    with pytest.raises(DataError, match="for one tokenisation, the text has two"):
        apply_masks(reviews, masks, processor, "exact")
    with pytest.raises(DataError, match="two tokenisations without common spans"):
        maskable_lengths(reviews.remove_columns(["span_ids", "span_ids_b"]), processor)
    tokenizer = deepcopy(wordpiece)
    tokenizer.unk_token = None
    with pytest.raises(DataError, match="has no unknown token"):
        apply_masks(golden_rows(), masks, DashFusionProcessor(tokenizer))


def test_plain_lists_of_frames(clip_dataset, clip_processor):
    """Encoded rows of users, whose frames are lists."""
    ids = list(map(str, range(len(clip_dataset))))
    masks = keep_masks("lnln", "0.9", maskable_lengths(clip_dataset, clip_processor), "sound", 1, "test", ids)
    damaged = apply_masks(clip_dataset, masks, clip_processor)
    assert damaged.features == clip_dataset.features and damaged["audio"][:] != clip_dataset["audio"][:]
