"""One pipeline that several threads call: the answers are those of one thread."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asserts import assert_close

LONG = "The room was not clean, but the staff was wonderful. " * 8
INPUTS = [LONG, "Good bed.", "The bar was fine. " * 7, "bad", "hotel " * 90, "We would never stay here again."]


@pytest.fixture
def slow_tokenizers(monkeypatch):
    """Tokenizers wait after their settings have changed, so that another thread can change them again."""

    def slow_down(classify):
        kind = type(classify.processor.tokenizer)
        change = kind.set_truncation_and_padding

        def change_slowly(self, *args, **kwargs):
            change(self, *args, **kwargs)
            time.sleep(0.003)

        monkeypatch.setattr(kind, "set_truncation_and_padding", change_slowly)

    return slow_down


@pytest.mark.parametrize("kind", ["review_classifier", "clip_classifier"])
def test_answers_are_right(request, slow_tokenizers, kind):
    """Without a lock, a tokenizer that cuts for one thread counts the tokens of whole texts for another one."""
    classify = request.getfixturevalue(kind)
    options = [{"return_truncated": True}, {"long_texts": "cut", "return_truncated": True}]
    expected = [[classify(text, **own) for text in INPUTS] for own in options]
    slow_tokenizers(classify)
    cases = [(i % 2, (i * 5) % len(INPUTS)) for i in range(48)]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda case: classify(INPUTS[case[1]], **options[case[0]]), cases))
    for (option, text), answer in zip(cases, found, strict=True):
        assert_close(answer, expected[option][text])


def test_explanations_are_right(review_classifier):
    expected = [review_classifier(text, explain=True) for text in INPUTS[1:3]]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda i: review_classifier(INPUTS[1 + i % 2], explain=True), range(4)))
    for i, answer in enumerate(found):
        assert_close(answer, expected[i % 2])
