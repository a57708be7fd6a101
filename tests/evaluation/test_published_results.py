import pytest

from hf_fusion.evaluation.published_results import PublishedResult, read_published
from hf_fusion.utils.errors import RecipeError

ENTRY = {"model": "TFN", "values": {"mae": 1.3, "acc7": 0.22}, "source": "a table"}


def test_a_complete_entry():
    entry = {**ENTRY, "protocol": "tfr", "seeds": [1, 2], "selection": "validation loss", "second_hand": True,
             "std": {"mae": 0.01}, "curve": {"mae": [1.0, 1.6]}, "note": "as printed"}  # fmt: skip
    (result,) = read_published([entry], {"tfr"})
    assert result == PublishedResult(**entry) and result.to_dict() == entry
    (plain,) = read_published([ENTRY], set())
    assert plain.to_dict() == ENTRY and not plain.second_hand


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("TFN", r"reference 1 must be a mapping, got 'TFN'"),
        ({**ENTRY, "year": 2020}, r"reference 1: unknown field year; there are model, values, source, protocol"),
        ({"model": "TFN", "source": "x"}, r"reference 1: values is missing"),
        ({**ENTRY, "values": {"mae": "1.3"}}, r"reference 1 \(TFN\): values must be a mapping"),
        ({**ENTRY, "second_hand": "yes"}, r"second_hand must be true or false"),
        ({**ENTRY, "protocol": "rain"}, r"protocol must be one of lnln, tfr, got 'rain'"),
        ({**ENTRY, "values": {"acc7": 22.3}}, r"acc7 lies between 0 and 1, got 22.3; shares, no percents"),
        ({**ENTRY, "values": {"mae": -1.0}}, r"mae lies between 0 and inf"),
        ({**ENTRY, "curve": {"acc7": [0.2, 20.0]}}, r"acc7 lies between 0 and 1, got 20.0"),
        ({**ENTRY, "values": {"accu": 0.5}}, r"reference 1 \(TFN\): Unknown metric 'accu'"),
    ],
)  # fmt: skip
def test_entries_that_are_refused(entry, words):
    with pytest.raises(RecipeError, match=words):
        read_published([entry], {"tfr", "lnln"})
