import logging

import numpy as np
import pytest
import torch
from conftest import AUDIO_SIZE, MAX_AUDIO, MAX_VISION, VISION_SIZE
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoFeatureExtractor

from hf_fusion import DashFusionFeatureExtractor

SIZES = {"audio": AUDIO_SIZE, "vision": VISION_SIZE}
LIMITS = {"audio": MAX_AUDIO, "vision": MAX_VISION}
LOGGER = "hf_fusion.models.feature_extraction_dashfusion"

both_streams = pytest.mark.parametrize("name", ["audio", "vision"])


@pytest.fixture
def extractor():
    return DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION)


def random_clips(name, lengths, offset=0.0, scale=1.0, seed=0):
    """Clips whose columns differ in mean and scale."""
    rng, size = np.random.default_rng(seed), SIZES[name]
    columns = np.arange(1, size + 1)
    return [offset * columns + scale * columns * rng.normal(size=(length, size)) for length in lengths]


def statistics(extractor, name):
    return getattr(extractor, f"{name}_mean"), getattr(extractor, f"{name}_std")


class TestFit:
    @both_streams
    @pytest.mark.parametrize(
        ("offset", "scale"),
        [(0, 1), (3, 0.1), (-5, 20), (1e6, 1), (1e6, 0.2), (-1e9, 500), (0, 1e-3)],
        ids=lambda value: f"{value:g}",
    )
    def test_is_mean_and_std_over_all_frames(self, extractor, name, offset, scale):
        clips = random_clips(name, [7, 1, 40, 300], offset, scale)
        extractor.fit(name, clips)
        frames = np.concatenate(clips)
        mean, std = statistics(extractor, name)
        np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-6)

    @given(
        lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
        offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
        seed=st.integers(0, 99),
    )
    def test_does_not_depend_on_how_frames_are_cut_into_clips(self, lengths, offset, seed):
        clips = random_clips("audio", lengths, offset, seed=seed)
        cut, whole = DashFusionFeatureExtractor(AUDIO_SIZE), DashFusionFeatureExtractor(AUDIO_SIZE)
        cut.fit("audio", clips)
        whole.fit("audio", [np.concatenate(clips)])
        np.testing.assert_allclose(cut.audio_mean, whole.audio_mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(cut.audio_std, whole.audio_std, rtol=1e-6)

    def test_counts_frames_beyond_the_limit_too(self, extractor):
        clips = random_clips("audio", [MAX_AUDIO + 20])
        extractor.fit("audio", clips)
        np.testing.assert_allclose(extractor.audio_mean, clips[0].mean(axis=0))

    def test_leaves_the_other_stream_alone(self, extractor):
        extractor.fit("audio", random_clips("audio", [9]))
        assert statistics(extractor, "vision") == (None, None)

    def test_reads_each_clip_once(self, extractor):
        clips = random_clips("audio", [4, 6])
        extractor.fit("audio", iter(clips))
        np.testing.assert_allclose(extractor.audio_mean, np.concatenate(clips).mean(axis=0))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64], ids=lambda dtype: dtype.__name__)
    def test_computes_in_float64_whatever_the_clips_are(self, extractor, dtype):
        clips = [(1000 + clip).astype(dtype) for clip in random_clips("audio", [50, 80])]
        extractor.fit("audio", clips)
        frames = np.concatenate(clips).astype(np.float64)
        np.testing.assert_allclose(extractor.audio_mean, frames.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(extractor.audio_std, frames.std(axis=0), rtol=1e-10)

    @pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e6, 123456.789], ids=lambda value: f"{value:g}")
    def test_constant_column_keeps_its_scale(self, extractor, value):
        clips = [clip.astype(np.float32) for clip in random_clips("audio", [5, 31, 3])]
        for clip in clips:
            clip[:, 1] = value
        extractor.fit("audio", clips)
        assert extractor.audio_std[1] == 1.0 and extractor.audio_std[0] != 1.0
        assert extractor.audio_mean[1] == pytest.approx(np.float32(value), rel=1e-12)
        assert (extractor.prepare("audio", clips)[0][:, 1] == 0).all()

    def test_rounding_of_float32_is_no_variation(self, extractor):
        clip = random_clips("audio", [40])[0].astype(np.float32)
        clip[:, 0] = 1e6
        clip[::2, 0] = np.nextafter(np.float32(1e6), np.float32(2e6))
        extractor.fit("audio", [clip])
        assert extractor.audio_std[0] == 1.0

    def test_ignores_empty_clips(self, extractor):
        clips = random_clips("audio", [5, 3])
        empty = [None, np.zeros((0, AUDIO_SIZE)), [], [[]], np.zeros((0, AUDIO_SIZE + 4))]
        extractor.fit("audio", [*empty, clips[0], None, clips[1], *empty])
        expected = np.concatenate(clips)
        np.testing.assert_allclose(extractor.audio_mean, expected.mean(axis=0))
        np.testing.assert_allclose(extractor.audio_std, expected.std(axis=0))

    def test_without_a_single_frame_there_are_no_statistics(self, extractor):
        extractor.fit("audio", [None, np.zeros((0, AUDIO_SIZE))])
        assert statistics(extractor, "audio") == (None, None)

    @both_streams
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
    def test_refuses_values_that_are_not_finite(self, extractor, name, value):
        clips = random_clips(name, [3, 3])
        clips[1][2, 1] = value
        with pytest.raises(ValueError, match=f"Clip 1: the {name} features are not all finite"):
            extractor.fit(name, clips)
        assert statistics(extractor, name) == (None, None), "nothing half done"

    def test_refuses_another_width(self, extractor):
        with pytest.raises(ValueError, match=r"Input 1 .* The vision .* width 4 where 5 is expected"):
            extractor.fit("vision", [np.zeros((2, 5)), np.zeros((2, 4))])


class TestPrepare:
    @both_streams
    def test_without_statistics_passes_values_unchanged(self, extractor, name):
        clips = [clip.astype(np.float32) for clip in random_clips(name, [1, 6])]
        prepared = extractor.prepare(name, clips)
        assert all(np.array_equal(a, b) and a.dtype == np.float32 for a, b in zip(prepared, clips, strict=True))

    @both_streams
    @pytest.mark.parametrize("offset", [0, 1e6, -1e9], ids=lambda value: f"{value:g}")
    def test_normalises_by_the_statistics(self, extractor, name, offset):
        clips = random_clips(name, [8, 3], offset)
        extractor.fit(name, clips)
        mean, std = (np.array(values) for values in statistics(extractor, name))
        for frames, clip in zip(extractor.prepare(name, clips), clips, strict=True):
            assert frames.dtype == np.float32
            np.testing.assert_allclose(frames, (clip - mean) / std, rtol=1e-5, atol=1e-6)

    def test_training_split_has_mean_0_and_std_1(self, extractor):
        clips = random_clips("vision", [9, 10, 7], offset=4, scale=30)
        extractor.fit("vision", clips)
        frames = np.concatenate(extractor.prepare("vision", clips)).astype(np.float64)
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-6)

    @pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "not-fitted"])
    def test_does_not_change_what_it_is_given(self, extractor, fitted):
        clip = random_clips("audio", [4])[0].astype(np.float32)
        if fitted:
            extractor.fit("audio", [clip])
        clip[0, 0] = np.nan
        before = clip.copy()
        extractor.prepare("audio", [clip])[0][:] = 9
        np.testing.assert_array_equal(clip, before)

    @both_streams
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, None], ids=str)
    def test_what_is_not_finite_becomes_0_and_is_counted(self, extractor, name, value, caplog):
        clips = random_clips(name, [5, 4, 3], offset=7)
        extractor.fit(name, clips)
        broken = [clip.tolist() for clip in clips]
        places = [(0, 2, 1), (0, 2, 2), (2, 0, 0)]
        for clip, frame, column in places:
            broken[clip][frame][column] = value
            clips[clip][frame, column] = 0  # before normalisation, as the readers do it
        expected = extractor.prepare(name, clips)
        with caplog.at_level(logging.WARNING, LOGGER):
            prepared = extractor.prepare(name, broken)
        assert all(np.array_equal(a, b) for a, b in zip(prepared, expected, strict=True))
        assert [record.getMessage() for record in caplog.records] == [f"3 {name} values were not finite and became 0."]

    def test_counts_only_values_that_are_read(self, extractor, caplog):
        clip = np.zeros((MAX_AUDIO + 5, AUDIO_SIZE))
        clip[MAX_AUDIO:] = np.nan
        with caplog.at_level(logging.WARNING, LOGGER):
            extractor.prepare("audio", [clip])
        assert not caplog.records

    def test_finite_values_are_no_reason_to_warn(self, extractor, caplog):
        with caplog.at_level(logging.WARNING, LOGGER):
            extractor.prepare("audio", random_clips("audio", [3, 0, 12]))
        assert not caplog.records

    @both_streams
    @pytest.mark.parametrize("more", [-1, 0, 1, 30], ids=["below", "exactly", "one-over", "far-over"])
    def test_cuts_to_the_first_frames(self, extractor, name, more):
        clip = random_clips(name, [LIMITS[name] + more])[0].astype(np.float32)
        (frames,) = extractor.prepare(name, [clip])
        np.testing.assert_array_equal(frames, clip[: LIMITS[name]])

    @both_streams
    def test_without_truncation_too_long_is_an_error(self, extractor, name):
        limit = LIMITS[name]
        fits, too_long = random_clips(name, [limit, limit + 1])
        assert len(extractor.prepare(name, [fits], truncation=False)[0]) == limit
        with pytest.raises(ValueError, match=f"Input 1 .* {limit + 1} {name} frames; at most {limit} are read"):
            extractor.prepare(name, [fits, too_long], truncation=False)

    @pytest.mark.parametrize(
        "clip",
        [None, [], [[]], np.zeros((0, AUDIO_SIZE)), np.zeros((0, 9)), np.zeros((4, 0)), torch.zeros(0, AUDIO_SIZE)],
        ids=["none", "list", "nested", "array", "other-width", "no-columns", "tensor"],
    )
    def test_no_frame_in_any_form(self, extractor, clip):
        assert extractor.prepare("audio", [clip])[0].shape == (0, AUDIO_SIZE)

    @pytest.mark.parametrize(
        "convert",
        [np.ndarray.tolist, torch.tensor, lambda a: a.astype(np.float64), lambda a: a.astype(object), list],
        ids=["lists", "tensor", "float64", "object", "rows"],
    )
    def test_reads_any_array_of_numbers(self, extractor, convert):
        clip = random_clips("audio", [4])[0].astype(np.float32)
        np.testing.assert_array_equal(extractor.prepare("audio", [convert(clip)])[0], clip)

    @pytest.mark.parametrize(
        ("clip", "words"),
        [
            (np.zeros((2, 5)), r"shape \(frames, 3\), got \(2, 5\): width 5 where 3 is expected"),
            (np.zeros((2, 2, 3)), r"shape \(frames, 3\), got \(2, 2, 3\)\.$"),
            (np.zeros(3), r"shape \(frames, 3\), got \(3,\)\.$"),
            (4.0, r"shape \(frames, 3\), got \(\)\.$"),
            ([["a", "b", "c"]], "no array of numbers.*'a'"),
            ("speech.wav", "no array of numbers.*'speech.wav'"),
            ([[1, 2, 3], [1, 2]], "no array of numbers.*inhomogeneous"),
            ({"array": 1}, "no array of numbers"),
            (torch.zeros(2, 3, requires_grad=True), "no array of numbers.*requires grad"),
        ],
        ids=["width", "3-d", "1-d", "0-d", "letters", "file", "ragged", "dict", "gradient"],
    )
    def test_refuses_what_are_no_frames(self, extractor, clip, words):
        with pytest.raises(ValueError, match=f"(?s)^Input 1 cannot be read. The audio features .*{words}"):
            extractor.prepare("audio", [None, clip])


class TestPad:
    @both_streams
    @pytest.mark.parametrize(
        ("options", "lengths", "width"),
        [
            ({}, (3, 0, 5), 5),
            ({"padding": "longest"}, (3, 0, 5), 5),
            ({"padding": "max_length"}, (3, 0, 5), None),
            ({"pad_to_multiple_of": 4}, (3, 0, 5), 8),
            ({"pad_to_multiple_of": 4}, (3, 4), 4),
            ({"pad_to_multiple_of": 8}, (9,), None),
            ({"padding": "max_length", "pad_to_multiple_of": 8}, (1,), None),
        ],
        ids=["true", "longest", "max-length", "multiple", "is-multiple", "multiple-over-limit", "both"],
    )
    def test_widths(self, extractor, name, options, lengths, width):
        prepared = extractor.prepare(name, random_clips(name, lengths))
        features, mask = extractor.pad(name, prepared, **options)
        width = LIMITS[name] if width is None else width
        assert features.shape == (len(lengths), width, SIZES[name]) and features.dtype == np.float32
        assert mask.shape == (len(lengths), width) and mask.dtype == np.int64
        for frames, row, row_mask in zip(prepared, features, mask, strict=True):
            np.testing.assert_array_equal(row[: len(frames)], frames)
            assert (row[len(frames) :] == 0).all()
            assert row_mask.tolist() == [1] * len(frames) + [0] * (width - len(frames))


class TestStatistics:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"audio_mean": [1, 2], "audio_std": [1, 1, 1]}, "`audio_mean` must have 3 values.*got 2"),
            ({"vision_mean": [0] * 5, "vision_std": [1] * 6}, "`vision_std` must have 5 values.*got 6"),
            ({"audio_mean": [0] * 3, "audio_std": [1, 0, 1]}, "`audio_std` must be above 0 .*got 0"),
            ({"audio_mean": [0] * 3, "audio_std": [1, 1, -2]}, "`audio_std` must be above 0 .*got -2"),
            ({"audio_mean": [0] * 3, "audio_std": [1, 1, np.nan]}, "`audio_std` must be finite"),
            ({"audio_mean": [0] * 3, "audio_std": [np.nan, 1, 1]}, "`audio_std` must be finite"),
            ({"audio_mean": [0] * 3, "audio_std": [1, np.inf, 1]}, "`audio_std` must be finite"),
            ({"audio_mean": [0, np.nan, 0], "audio_std": [1] * 3}, "`audio_mean` must be finite"),
            ({"vision_mean": [0, 0, 0, 0, -np.inf], "vision_std": [1] * 5}, "`vision_mean` must be finite"),
            ({"audio_mean": [0] * 3}, "`audio_mean` and `audio_std` belong together"),
            ({"vision_std": [1] * 5}, "`vision_mean` and `vision_std` belong together"),
            ({"audio_mean": ["a", "b", "c"], "audio_std": [1] * 3}, "'a'"),
        ],
        ids=[
            "mean-short", "std-long", "std-zero", "std-negative", "std-nan-last", "std-nan-first", "std-inf",
            "mean-nan", "mean-inf", "mean-alone", "std-alone", "letters",
        ],
    )  # fmt: skip
    def test_refuses_bad_ones(self, fields, words):
        with pytest.raises(ValueError, match=words):
            DashFusionFeatureExtractor(AUDIO_SIZE, VISION_SIZE, **fields)

    @pytest.mark.parametrize(
        "convert", [list, tuple, np.float32, torch.tensor], ids=["list", "tuple", "numpy", "torch"]
    )
    def test_become_plain_numbers(self, convert):
        extractor = DashFusionFeatureExtractor(3, audio_mean=convert([1, 2, 3]), audio_std=convert([0.5, 2, 4]))
        assert extractor.audio_mean == [1.0, 2.0, 3.0] and extractor.audio_std == [0.5, 2.0, 4.0]
        assert {type(value) for value in extractor.audio_mean + extractor.audio_std} == {float}


class TestSaving:
    @pytest.mark.parametrize("how", [DashFusionFeatureExtractor, AutoFeatureExtractor], ids=lambda how: how.__name__)
    @pytest.mark.parametrize("fitted", [("audio", "vision"), ("audio",), ()], ids=["both", "audio-only", "none"])
    def test_round_trip_is_exact(self, extractor, tmp_path, how, fitted):
        clips = {name: random_clips(name, [7, 11], offset=1 / 3, scale=1e-4) for name in SIZES}
        for name in fitted:
            extractor.fit(name, clips[name])
        extractor.save_pretrained(tmp_path)
        loaded = how.from_pretrained(tmp_path)
        assert type(loaded) is DashFusionFeatureExtractor
        fields = ("audio_feature_size", "vision_feature_size", "max_audio_length", "max_vision_length")
        assert [getattr(loaded, field) for field in fields] == [AUDIO_SIZE, VISION_SIZE, MAX_AUDIO, MAX_VISION]
        for name in SIZES:
            assert statistics(loaded, name) == statistics(extractor, name)
            assert (statistics(loaded, name)[0] is None) == (name not in fitted)
            for a, b in zip(loaded.prepare(name, clips[name]), extractor.prepare(name, clips[name]), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_folder_with_bad_statistics_is_refused(self, extractor, tmp_path):
        extractor.fit("audio", random_clips("audio", [5]))
        extractor.audio_std[1] = 0.0
        extractor.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="`audio_std` must be above 0"):
            DashFusionFeatureExtractor.from_pretrained(tmp_path)
