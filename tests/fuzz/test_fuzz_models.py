"""Configurations, processors and the pipeline: a finite answer, or a `ValueError` or `TypeError`."""

import json
from inspect import signature

import numpy as np
import pytest
import torch
from hostile import NASTY_TEXTS, cases, changed, damaged, frames, numbers, result_or, scalars, texts, values
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from hf_fusion import DashFusionFeatureExtractor, FusionSentimentPipeline

RANGES = st.lists(numbers, min_size=2, max_size=2)


@pytest.fixture(params=["dyfulm", "dashfusion"])
def config(request, make_config, clip_config):
    return make_config() if request.param == "dyfulm" else clip_config(label_range=(-3.0, 3.0))


def test_configurations(config):
    base = {**config.to_dict(), "num_labels": 5 if config.model_type == "dyfulm" else 1}
    own = {name for name in signature(type(config)).parameters if not name.endswith("_config")}

    @cases(24)
    @given(fields=changed(base, values | RANGES))
    def check(fields):
        with result_or(ValueError, TypeError):
            found = type(config).from_dict(fields)
            found.check()
            low, high = getattr(found, "intensity_range", getattr(found, "label_range", None))
            assert np.isfinite([low, high]).all() and low < high
            assert sorted(found.id2label) == list(range(found.num_labels))
            again = type(config).from_dict(json.loads(found.to_json_string(use_diff=False))).to_dict()
            assert all(again[name] == value for name, value in found.to_dict().items() if name in own)

    check()


def test_configuration_files(config, tmp_path):
    path = tmp_path / "config.json"
    config.save_pretrained(tmp_path)
    data = path.read_bytes()

    @cases(10)
    @given(content=damaged([data]) | changed(json.loads(data)).map(lambda fields: json.dumps(fields).encode()))
    def check(content):
        path.write_bytes(content)
        with result_or(ValueError, TypeError, OSError, RecursionError):  # of transformers, before our classes
            found = AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
            assert type(found).__module__.startswith(("hf_fusion.", "transformers."))

    check()


arguments = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([True, False, "longest", "max_length", "x", None, 3]),
        "truncation": st.booleans(),
        "max_length": st.sampled_from([None, 0, 3, 8, 64, -1, 2.5, "8", True]),
        "pad_to_multiple_of": st.sampled_from([None, 0, 1, 8, -3, 2.5, "8"]),
        "return_tensors": st.sampled_from([None, "pt", "np", "x"]),
    },
)
some_texts = st.one_of(texts, st.lists(texts | st.none(), max_size=3), values)


def assert_rectangular(batch, options):
    if options.get("return_tensors") in ("pt", "np"):
        assert len({values.shape[0] for values in batch.values()}) <= 1
    for name, column in batch.items():
        if name.endswith("_features"):
            assert all(np.isfinite(np.asarray(row)).all() for row in column)


@cases(16)
@given(text=some_texts, options=arguments)
def test_processor_of_texts(processor, text, options):
    with result_or(ValueError, TypeError):
        assert_rectangular(processor(text, **options), options)


@cases(20)
@given(
    text=st.none() | some_texts, options=arguments,
    audio=st.none() | frames | st.lists(frames, max_size=2), vision=st.none() | frames | st.lists(frames, max_size=2),
)  # fmt: skip
def test_processor_of_clips(clip_processor, text, audio, vision, options):
    with result_or(ValueError, TypeError):
        assert_rectangular(clip_processor(text, audio, vision, **options), options)


statistics = st.none() | st.lists(numbers, min_size=3, max_size=3) | values


@cases(16)
@given(mean=statistics, std=statistics, clip=frames, sizes=st.tuples(st.just(3) | scalars, st.just(12) | scalars))
def test_feature_extractor(mean, std, clip, sizes):
    with result_or(ValueError, TypeError), np.errstate(over="ignore"):
        extractor = DashFusionFeatureExtractor(
            audio_feature_size=sizes[0], max_audio_length=sizes[1], audio_mean=mean, audio_std=std
        )
        (prepared,) = extractor.prepare("audio", [clip])
        assert np.isfinite(prepared).all() and len(prepared) <= sizes[1]
        extractor.fit("audio", [clip])
        assert np.isfinite(extractor.prepare("audio", [clip])[0]).all()


def assert_answers(answers):
    for answer in answers if isinstance(answers, list) else [answers]:
        if isinstance(answer, list):
            assert_answers(answer)
        else:
            assert isinstance(answer["label"], str) and np.isfinite([answer["score"], answer.get("intensity", 0)]).all()


keywords = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": st.sampled_from([1, 2, 0, -1, 2.5, "2", None, True]),
        "top_k": st.sampled_from([None, 1, 3, 0, -1, 1.5, "1", 10**9]),
        "x": st.just(1),
    },
)


@pytest.fixture
def read_texts(make_model, processor):
    return FusionSentimentPipeline(make_model(), processor=processor, device="cpu")


@cases(12)
@given(inputs=some_texts | st.lists(st.sampled_from(NASTY_TEXTS), max_size=4), options=keywords)
def test_pipeline_of_texts(read_texts, inputs, options):
    with result_or(ValueError, TypeError):
        answers = read_texts(inputs, **options)
        assert_answers(answers if isinstance(answers, (list, dict)) else list(answers))


@pytest.fixture
def read_clips(clip_model, clip_processor):
    return FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")


sized_frames = st.sampled_from([3, 5]).flatmap(
    lambda size: st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=1, max_size=4)
)
clips = st.fixed_dictionaries({}, optional={"text": texts | scalars, "audio": frames | sized_frames,
                                            "vision": frames | sized_frames, "x": scalars})  # fmt: skip


@cases(20)
@given(inputs=clips | st.lists(clips, max_size=3), options=keywords)
def test_pipeline_of_clips(read_clips, inputs, options):
    with result_or(ValueError, TypeError):
        answers = read_clips(inputs, **options)
        assert_answers(answers if isinstance(answers, (list, dict)) else list(answers))


@cases(6)
@given(
    scale=st.sampled_from([1e4, 1e20, 1e30, 3e38, 1e300]),
    std=st.sampled_from([1e-30, 1e-3, 1.0]),
    seed=st.integers(0, 9),
)
def test_large_frames_have_a_finite_answer(clip_model, clip_processor, scale, std, seed):
    clip_processor.feature_extractor.set_statistics("audio", [0.0] * 3, [std] * 3)
    classify = FusionSentimentPipeline(clip_model(), processor=clip_processor, device="cpu")
    audio = np.random.default_rng(seed).normal(size=(4, 3)) * scale
    with np.errstate(over="ignore"), torch.inference_mode():
        assert_answers(
            classify([{"text": "good", "audio": audio.astype(np.float32)}, {"text": "good", "audio": audio}])
        )
        if np.isfinite(audio.astype(np.float32)).any():
            assert_answers(classify([{"audio": audio}]))
        else:  # nothing that the model's numbers can hold
            with pytest.raises(ValueError, match="no audio frame"):
                classify([{"audio": audio}])
