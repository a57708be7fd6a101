"""Pickles made of random opcodes: a plain value or a `DataError`, no import, little time and memory."""

import pickle
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hostile import cases, result_or
from hypothesis import given
from hypothesis import strategies as st

from hf_fusion.data.pickles import read_pickle
from hf_fusion.utils.errors import DataError

GADGETS = [
    ("os", "system"), ("posix", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("builtins", "__import__"),
    ("builtins", "getattr"), ("builtins", "open"), ("__builtin__", "exec"), ("operator", "attrgetter"),
    ("functools", "partial"), ("copyreg", "_reconstructor"), ("types", "CodeType"), ("importlib", "import_module"),
    ("torch", "load"), ("torch._utils", "_rebuild_tensor_v2"), ("numpy", "load"), ("numpy", "fromfile"),
    ("numpy._core.multiarray", "fromfile"), ("numpy", "ndarray.tofile"), ("pickle", "loads"), ("runpy", "run_path"),
    ("webbrowser", "open"), ("sys", "modules"), ("builtins", "set.__class__"), ("numpy.core.multiarray", "frombuffer"),
]  # fmt: skip
ALLOWED = [
    ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"), ("builtins", "set"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"), ("_codecs", "encode"),
    ("builtins", "frozenset"), ("builtins", "complex"), ("builtins", "bytearray"), ("collections", "OrderedDict"),
]  # fmt: skip


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def by_name(name):
    """How opcodes push a global."""
    module, attribute = name
    line = f"{module}\n{attribute}\n".encode()
    return [b"c" + line, text(module) + text(attribute) + b"\x93", b"(N" + b"i" + line, b"(c" + line + b"No"]


lengths = st.sampled_from([0, 1, 5, 2**31 - 1, 2**32 - 1])
PIECES = [
    b"K\x01", b"N", b"2", b"2\x86", b"]", b"}", b"(", b"t", b"q\x00", b"h\x00", b"\x94", b")R", b"\x85R", b"\x8f",
    b"\x91", *map(text, ["f8", "b", "latin1", "<", "U1"]), b"C\x08" + bytes(8),
]  # fmt: skip
VALUES = [np.arange(3.0), np.array(["a", None], object), {"a": (1, {2})}, [b"x"]]


def with_length(form, codes):
    return st.builds(lambda code, n: code + struct.pack(form, n), st.sampled_from(codes), lengths)


opcodes = st.one_of(
    st.sampled_from(
        [value for name in dir(pickle) if name.isupper() and isinstance(value := getattr(pickle, name), bytes)]
    ),
    st.sampled_from([push for name in ALLOWED for push in by_name(name)]),
    st.sampled_from([push for name in GADGETS for push in by_name(name)]),
    st.sampled_from(PIECES),
    with_length("<I", [b"X", b"B", b"T", b"\x8b", b"r", b"j"]),
    with_length("<Q", [b"\x8d", b"\x8e", b"\x96", b"\x95"]),
    st.sampled_from([b"I" + digits + b"\n" for digits in (b"1", b"01", b"-7", b"9" * 5000, b"x")]),
    st.sampled_from([pickle.dumps(value)[2:-1] for value in VALUES]),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "a.pkl"


@pytest.mark.parametrize("times", [1, 60], ids=["short", "repeated"])
def test_random_opcodes(place, times):
    @cases(16)
    @given(
        program=st.lists(opcodes, max_size=12), protocol=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"\x80\x05"])
    )
    def check(program, protocol):
        place.write_bytes(protocol + b"".join(code * times for code in program) + b".")
        modules, begin = set(sys.modules), time.process_time()
        tracemalloc.start()
        with result_or(DataError):
            value = read_pickle(place)
            assert set(sys.modules) == modules
            pickle.dumps(value)  # a value through and through
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000 and time.process_time() - begin < 10

    check()


NESTED = b"N" + b"2\x86" * 24  # 2 ** 24 items; seconds to hash


@pytest.mark.parametrize(
    "data",
    [
        b"}" + NESTED + b"Ns.",
        b"}(" + NESTED + b"Nu.",
        b"(" + NESTED + b"Nd.",
        b"\x80\x04\x8f(" + NESTED + b"\x90.",
        b"\x80\x04(" + NESTED + b"\x91.",
        b"c__builtin__\nset\n(]" + NESTED + b"atR.",
        b"c__builtin__\nfrozenset\n(]" + NESTED + b"atR.",
        b"ccollections\nOrderedDict\n(](" + NESTED + b"NtatR.",
        b"}\x8b\x01\x00\x01\x00" + b"\xff" * 2**16 + b"\x00Ns.",
        b"}X\x00\x00\x01\x00" + b"a" * 2**16 + b"Ns.",
    ],
    ids=["setitem", "setitems", "dict", "additems", "frozenset", "set()", "frozenset()", "OrderedDict()", "int", "str"],
)  # fmt: skip
def test_keys_that_take_long_to_hash(place, data):
    place.write_bytes(data)
    with pytest.raises(DataError, match="a key that is nested too deeply or too long"):
        read_pickle(place)


def test_values_of_the_same_kind_are_read(place):
    value = [tuple(range(1000)), {("a", (1, 2)): (tuple(range(999)),)}, {frozenset([(1, frozenset([2]))])}, 10**4000]
    for protocol in range(6):
        place.write_bytes(pickle.dumps(value, protocol))
        assert read_pickle(place) == value
