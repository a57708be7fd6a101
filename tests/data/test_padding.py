import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.padding import PaddedClips, unpad
from hf_fusion.utils.errors import DataError


def padded(shapes, lengths=None, **options):
    """Unpadded frames of clips drawn as texts: "x" a frame, "." one of zeros; as texts, each frame its own letter."""
    frames = [np.array([0 if mark == "." else 1 + i for i, mark in enumerate(shape)])[:, None] for shape in shapes]
    lengths = lengths or [None] * len(shapes)
    clips = PaddedClips("f.pkl, field 'audio'", [f"clip {i}" for i in range(len(shapes))], frames, lengths)
    return ["".join("." if value == 0 else chr(96 + value) for value in clip[:, 0]) for clip in unpad(clips, **options)]


class TestLengths:
    def test_padding_at_the_end(self):
        assert padded(["xx..", "xxxx", "x..."], [2, 4, 1]) == ["ab", "abcd", "a"]

    def test_padding_at_the_start(self, caplog):
        assert padded(["..xx", "xxxx", "...x"], [2, 4, 1]) == ["cd", "abcd", "d"]
        assert "padded at the start" in caplog.text

    def test_frames_of_zeros_within_a_clip_stay(self, caplog):
        assert padded(["x.x..", "x....", ".x...", "xxxx."], [3, 3, 2, 4]) == ["a.c", "a..", ".b", "abcd"]
        assert "1 clip (clip 1) ends with frames of zeros within its length; they are kept" in caplog.text
        assert padded(["..x.x", "..xx.", "....x"], [3, 3, 1]) == ["c.e", "cd.", "e"]

    def test_arrays_that_are_full(self):
        assert padded(["xx", "x.x", "xxx"], [2, 3, 3]) == ["ab", "a.c", "abc"]

    @pytest.mark.parametrize("odd", ["..xxx.", "x.xx.x", ".....x"])
    def test_one_odd_clip_does_not_turn_the_others(self, odd):
        with pytest.raises(DataError, match=r"clip 3: the length is 2 of 6 .*the end in 4 of 5 clips; not in 1 clip"):
            padded(["xx....", "xxx...", "xxxx..", odd, "x....."], [2, 3, 4, 2, 1])

    def test_one_odd_clip_of_a_file_that_is_padded_at_the_start(self):
        with pytest.raises(DataError, match=r"clip 1: the length is 2 of 3 .*the start in 3 of 4 clips"):
            padded(["..x", "xx.", ".xx", "..x"], [1, 2, 2, 1])

    def test_values_outside_a_length(self):
        with pytest.raises(DataError, match=r"'audio', clip 0: the length is 1 of 3 frames, but frames 1 to 2 have"):
            padded(["xx.", "x..", "xx."], [1, 1, 2])

    def test_ends_that_cannot_be_told_apart(self):
        with pytest.raises(DataError, match="Say where padding is"):
            padded([".x.", "xxx"], [2, 3])
        assert padded([".x.", "xxx"], [2, 3], padding="end") == [".b", "abc"]
        assert padded([".x.", "xxx"], [2, 3], padding="start") == ["b.", "abc"]

    def test_clips_that_an_extractor_cut(self, caplog):
        assert padded(["xx...", "xxxxx", "xxxxx"], [2, 5, 9]) == ["ab", "abcde", "abcde"]
        assert "the length of 1 clip (clip 2) is beyond the array, which it fills" in caplog.text

    def test_lengths_beyond_an_array_with_padding(self):
        with pytest.raises(DataError, match=r"clip 1: the length 2,000 is beyond the array of 4 frames"):
            padded(["xx..", "xxx."], [2, 2000])

    @pytest.mark.parametrize("shapes", [["xx...", "xxx..", "x...."], ["...xx", "..xxx", "....x"]])
    def test_the_length_of_the_array_is_none_of_the_clip(self, shapes):
        with pytest.raises(DataError, match=r"the lengths of 3 clips .*of the padded array"):
            padded(shapes, [5, 5, 5])
        assert padded(shapes, [5, 5, 5], use_lengths=False) == [
            "".join("." if mark == "." else chr(97 + i) for i, mark in enumerate(shape)).strip(".") for shape in shapes
        ]

    def test_a_clip_of_zeros_is_missing(self, caplog):
        assert padded(["....", "xx..", "...."], [3, 2, 0]) == ["", "ab", ""]
        assert "nothing but zeros in 1 clip (clip 0); it counts as missing" in caplog.text


class TestLengthsThatEndAtTheFirstZeros:
    """As MMSA made those of MOSEI: up to the first frame of zeros, at least 1."""

    def test_of_padding_at_the_start(self, caplog):
        assert padded(["...xxx", "..xx.x", "xxxxxx"], [1, 1, 6]) == ["def", "cd.f", "abcdef"]
        assert "lengths end at the first frame of zeros, but 2 clips (clip 0, clip 1)" in caplog.text

    def test_of_padding_at_the_end(self):
        assert padded(["x.xx..", "xx....", "......"], [1, 2, 1]) == ["a.cd", "ab", ""]

    def test_one_other_length_is_a_contradiction(self):
        with pytest.raises(DataError, match="clip 0: the length is 1 of 6"):
            padded(["x.xx..", "xx....", "xxxx.."], [1, 2, 3])


class TestZeros:
    def test_at_one_end(self, caplog):
        assert padded(["xx..", "xxx.", "x..."]) == ["ab", "abc", "a"]
        assert "zeros at the end of a clip count as padding; 3 of 3 clips have some" in caplog.text
        assert padded(["..xx", ".x.x", "...x"]) == ["cd", "b.d", "d"]
        assert "zeros at the start of a clip count as padding; 3 of 3 clips have some" in caplog.text

    def test_at_both_ends_of_few_clips(self):
        assert padded(["xx..", ".x..", "x...", "xxx."]) == ["ab", ".b", "a", "abc"]
        assert padded(["..xx", "..x.", "...x", ".xxx"]) == ["cd", "c.", "d", "bcd"]

    def test_frames_of_zeros_that_every_clip_has(self):
        """Those of [CLS] and [SEP] in aligned files."""
        assert padded([".x.....", ".xx....", ".xxxxx."]) == [".b", ".bc", ".bcdef"]

    def test_that_do_not_tell(self):
        for shapes in ([".x."], ["x..", "..x"], [".xx", "xx.", "xxx"]):
            with pytest.raises(DataError, match=rf"begin 1 and end 1 of {len(shapes)} clips. Say where padding is"):
                padded(shapes)
        assert padded(["x..", "..x"], padding="none") == ["a..", "..c"]
        assert padded([".x."], padding="start") == ["b."]

    def test_a_split_without_lengths_beside_one_with_lengths(self):
        assert padded(["xx..", "x...", "x.x."], [2, 1, None]) == ["ab", "a", "a.c"]
        assert padded([".x..", "x...", ".x.."], [2, 1, None]) == [".b", "a", ".b"]

    def test_values_that_are_not_finite_are_no_padding(self):
        frames = np.array([[[np.nan, 0], [0, -np.inf], [0, 0]]])
        (clip,) = unpad(PaddedClips("f", ["c"], list(frames), [None]))
        assert len(clip) == 2


class TestTheWordOfTheUser:
    def test_lengths_are_believed(self, caplog):
        assert padded(["xxx", "xx."], [2, 1], padding="end") == ["ab", "a"]
        assert "2 clips (clip 0, clip 1) with values outside" in caplog.text

    def test_padding_none_keeps_every_frame(self):
        assert padded(["x..", ".x."], [1, 2], padding="none") == ["a..", ".b."]


def filled(draw, length, edges):
    """Frames, some of them zeros; the first and the last one only where `edges` may be zeros."""
    marks = [draw(st.sampled_from("xxx.")) for _ in range(length)]
    if not edges and length:
        marks[0] = marks[-1] = "x"
    return "".join(marks)


@st.composite
def clips(draw):
    told = draw(st.booleans())
    shapes = [filled(draw, length, told) for length in draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))]
    return shapes, told, draw(st.sampled_from(["start", "end"])), draw(st.integers(0, 2))


@given(clips())
def test_clips_come_back_exactly_or_are_refused(case):
    shapes, told, side, more = case
    size = max(map(len, shapes)) + more
    pad = str.rjust if side == "start" else str.ljust
    try:
        found = padded([pad(shape, size, ".") for shape in shapes], list(map(len, shapes)) if told else None)
    except DataError as error:
        assert "padding" in str(error)
        full_edges = all(shape[:1] != "." and shape[-1:] != "." for shape in shapes)
        assert not full_edges, "nothing to refuse where each clip begins and ends with values"
        return
    marks = ["".join("." if mark == "." else "x" for mark in clip) for clip in found]
    assert marks == ["" if set(shape) <= {"."} else shape for shape in shapes]
    places = ["".join(mark for mark in clip if mark != ".") for clip in found]
    assert all(letters == "".join(sorted(letters)) for letters in places)


class TestPaddingThatIsNotFinite:
    """What some tools write where there is no frame."""

    @staticmethod
    def lengths(shapes, lengths=None, **options):
        values = {"x": 1.0, ".": 0.0, "n": np.nan, "i": np.inf}
        frames = [np.array([[values[mark], values[mark]] for mark in shape]) for shape in shapes]
        clips = PaddedClips("f.pkl", [f"clip {i}" for i in range(len(shapes))], frames, lengths or [None] * len(shapes))
        return [len(clip) for clip in unpad(clips, **options)]

    def test_counts_as_padding_without_lengths(self, caplog):
        assert self.lengths(["xxnn", "xnxx", "x.ni", "xxxn"]) == [2, 4, 1, 3]
        assert "3 of 4 clips have some" in caplog.text
        assert "that padding is not finite (NaN) in 3 clips (clip 0, clip 2, clip 3)" in caplog.text

    def test_at_the_start(self):
        assert self.lengths(["nnxx", "nxxx", "nnnx"]) == [2, 3, 1]

    def test_a_clip_of_nothing_else_keeps_its_frames(self):
        assert self.lengths(["xxnn", "nnnn", "...."]) == [2, 4, 0]

    def test_lengths_count(self, caplog):
        assert self.lengths(["xxn..", "xxxx.", "x...."], [3, 4, 1]) == [3, 4, 1]
        assert "not finite" not in caplog.text

    def test_one_value_is_enough_for_a_frame(self):
        frames = [np.array([[1, 1], [np.nan, 2], [np.nan, 0]]), np.ones((3, 2)), np.array([[1, 1], [0, 0], [0, 0.0]])]
        clips = PaddedClips("f.pkl", list("abc"), frames, [None] * 3)
        assert [len(clip) for clip in unpad(clips)] == [2, 3, 1]
