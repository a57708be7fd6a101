"""Hostile texts, values and bytes, and what the tests here ask for: a result or a clear error, in bounded time."""

import copy
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

NASTY_TEXTS = [
    "", " ", "\0", "\ud800", "\ufeffa", "\u202eabc\u2066", "a\u0301" * 40, "😀" * 20, "שלום", "\x1b[31m", "a\r\nb\tc",
    "=cmd()", "<script>alert(1)</script>", "\"'><b>", "{{ 7*7 }}", "$$", "a$b$c", "$\\x$", "a|b", "---\nx: 1\n---\n",
    "../../etc/passwd", "/etc/passwd", "C:\\x", "..", "[CLS] [SEP] [PAD] </s>", "a" * 5000, "ab " * 1000, "1" * 5000,
    "nan", "-inf", "1e999", "1_0", "٣", "null", "true", "no", "2024-13-45", "0x", "1:99", "[" * 400, '{"a":' * 300,
    '!!python/object/apply:os.system ["touch x"]', "&a [*a]", "%s%n", "package:os/x", "~", "-", "--help", "🏳️‍🌈",
]  # fmt: skip
NASTY_NUMBERS = [
    0, -1, 1, 2, 7, 10**400, -(10**400), 2**31, 2**63, 2**64, 1e-320, 1e38, 3.4e38, 1e308, -0.0, 0.5, -1.5,
    float("nan"), float("inf"), -float("inf"), True, False,
]  # fmt: skip

texts = st.one_of(st.text(max_size=30), st.text(st.characters(), max_size=10), st.sampled_from(NASTY_TEXTS))
numbers = st.one_of(st.sampled_from(NASTY_NUMBERS), st.integers(-9, 9), st.floats(-9, 9, width=32))
scalars = st.one_of(st.none(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "model_type", "0"]), inner),
    max_leaves=6,
)
shapes = st.sampled_from([(), (0,), (3,), (0, 3), (2, 0), (1, 3), (4, 3), (2, 5), (40, 3), (1, 2, 3)])
frames = st.one_of(
    hnp.arrays(st.sampled_from(["f2", "f4", "f8", ">f4", "i8", "?", "c8", "U3", "S3", "M8[s]"]), shapes),
    hnp.arrays(object, shapes, elements=scalars),
    st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=4),
    hnp.arrays(np.float32, (2, 3), elements=st.sampled_from([0, 1, np.nan, np.inf, 3.4e38, -3.4e38, 1e-45])),
    values,
)  # fmt: skip


def cases(count):
    """So many cases in the suite, and in proportion more with the profile "fuzz" (tests/conftest.py)."""
    scale = settings.get_profile(settings.get_current_profile_name()).max_examples
    return settings(
        phases=[phase for phase in Phase if phase is not Phase.explain],
        max_examples=max(count * scale // settings.get_profile("suite").max_examples, 1),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


counted = 0  # cases in this process, for the report of the test run


@contextmanager
def result_or(*errors, seconds=60):
    """
    What happens inside ends with a result, or with one of these errors and a message that can be read, and takes so
    many seconds of the processor at most (not of the clock: a busy machine is no hang).
    """

    global counted
    counted += 1

    def hangs(*_):
        pytest.fail(f"no answer within {seconds} s")  # which no `except Exception` takes

    before = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except errors as error:
        assert 0 < len(str(error)) < 20_000, type(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@st.composite
def damaged(draw, bases):
    """Bytes of one of the `bases` with pieces replaced, left out, put in or repeated; or any bytes."""
    data = draw(st.sampled_from(bases))
    pieces = st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\0" * 4, b"\xff" * 8, b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 2000, b"9" * 5000, b'"', b"\n"]),
    )
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 1, 2, 4, 8, 50, 10**6]))
        data = data[:start] + draw(pieces) + data[end:]
    return data


@st.composite
def changed(draw, base, new=values):
    """A copy of a JSON value in which some fields, at any depth, are replaced, left out or added."""
    found = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        place = found
        while True:
            key = draw(st.sampled_from(sorted(place, key=str) if isinstance(place, dict) else range(len(place))))
            if not (isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans())):
                break
            place = place[key]
        if draw(st.integers(0, 5)) == 0:
            del place[key]
        elif isinstance(place, dict) and draw(st.integers(0, 9)) == 0:
            place[draw(texts)] = draw(new)
        else:
            place[key] = draw(new)
        if not found:
            break
    return found
