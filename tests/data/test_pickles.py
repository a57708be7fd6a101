import copyreg
import hashlib
import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_fusion.data import pickles
from hf_fusion.data.pickles import read_pickle, sha256_of
from hf_fusion.utils.errors import DataError

PROTOCOLS = range(6)
FIRED = []


def fire(*args, **kwargs):
    """What hostile pickles of these tests would call."""
    FIRED.append(args)


@pytest.fixture(autouse=True)
def nothing_fired():
    FIRED.clear()
    yield
    assert not FIRED


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "a.pkl"


@pytest.fixture
def read(place):
    """Reads the bytes of a pickle, by way of a file."""

    def read(data):
        place.write_bytes(data)
        return read_pickle(place)

    return read


class Reduced:
    """An object that a pickle describes as `make(*args)` with a state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def dtype_of(name="f8", state=(3, "<", None, None, None, -1, -1, 0)):
    return Reduced(np.dtype, (name, False, True), state)


def array_of(*state, args=None):
    make, usual, _ = np.zeros(1).__reduce__()
    return Reduced(make, args or usual, *([state] if state else []))


def frombuffer_of(*args):
    return Reduced(np.zeros(1).__reduce_ex__(5)[0], args)


def scalar_of(*args):
    return Reduced(np.float64(1).__reduce__()[0], args)


def named(data, core):
    """The bytes of a small pickle as a numpy whose inner package is called `core` writes them."""
    for old in (b"numpy.core", b"numpy._core"):
        for rest in (b".multiarray", b".numeric"):
            data = data.replace(old + rest + b"\n", core + rest + b"\n")
            text, other = old + rest, core + rest
            data = data.replace(bytes([0x8C, len(text)]) + text, bytes([0x8C, len(other)]) + other)
    if data[2:3] == pickle.FRAME:
        data = data[:3] + struct.pack("<Q", len(data) - 11) + data[11:]
    return data


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray) and expected.dtype.hasobject:
        assert found.shape == expected.shape and found.dtype == expected.dtype
        for one, other in zip(found.flat, expected.flat, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray | np.generic):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.dtype.byteorder == expected.dtype.byteorder
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected or expected != expected


VALUES = [
    None, True, False, 0, -1, 255, 2**31, -(2**70), 10**400, 1.5, float("inf"), float("nan"), 1 + 2j, "", "très 😀",
    "\ud800", b"", b"\x00\xff" * 300, [], (), {}, set(), [1, [2, (3, [4])]], (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
    {"a": {"b": [None]}, 1: 2, (1, "x"): 3}, {1, "a", (2, 3)}, frozenset([1, frozenset([2])]), ["x" * 70_000],
]  # fmt: skip
ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    np.array([0.5, -np.inf, np.nan], np.float16),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
    np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::2],
    np.arange(6, dtype=">f4").reshape(2, 3),
    np.arange(6, dtype=">i8"),
    np.array([True, False]),
    np.array([1 + 2j], np.complex64),
    np.array(3.0),
    np.zeros(0),
    np.zeros((0, 50, 74), np.float32),
    np.zeros((3, 0, 5)),
    np.array(["a$_$1", "très 😀"]),
    np.array(["a", "b"], ">U3"),
    np.array([b"a", b"bc"]),
    np.array([], dtype=str),
    np.array(["a", None, 1.5, [1, 2], {"x": np.arange(3)}], dtype=object),
    np.array([["a", "b"], ["c", "d"]], dtype=object, order="F"),
    np.zeros((0, 2), dtype=object),
    *(np.arange(3).astype(kind) for kind in ("u1", "i1", "u2", "i4", "u8", "c16")),
]
SCALARS = [np.float32(1.5), np.float64(2), np.int64(-3), np.bool_(True), np.str_("é"), np.bytes_(b"x"), np.float16(1)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestRoundTrip:
    def test_plain_values(self, read, protocol):
        for value in VALUES:
            assert_same(read(pickle.dumps(value, protocol)), value)

    def test_arrays_and_scalars(self, read, protocol):
        for value in ARRAYS + SCALARS:
            assert_same(read(pickle.dumps(value, protocol)), value)

    @pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
    def test_names_of_both_numpys(self, read, protocol, core):
        for value in (ARRAYS[0], ARRAYS[16], ARRAYS[19], SCALARS[0]):
            data = named(pickle.dumps(value, protocol), core)
            assert core in data and (b"numpy._core" if core == b"numpy.core" else b"numpy.core") not in data
            assert_same(read(data), value)

    def test_nested(self, read, protocol):
        value = {"train": {"audio": ARRAYS[1], "id": ["a", "b"], "pair": (ARRAYS[0], [SCALARS[0]])}}
        assert_same(read(pickle.dumps(value, protocol)), value)

    def test_a_shared_array_stays_one(self, read, protocol):
        array = np.arange(4.0)
        found = read(pickle.dumps({"a": array, "b": [array], "c": (array,)}, protocol))
        assert found["a"] is found["b"][0] is found["c"][0]
        assert_same(found["a"], array)

    def test_other_containers(self, read, protocol):
        assert_same(read(pickle.dumps(OrderedDict(b=1, a=np.zeros(1)), protocol)), {"b": 1, "a": np.zeros(1)})
        assert_same(read(pickle.dumps([bytearray(b"ab"), bytearray()], protocol)), [b"ab", b""])

    def test_fortran_order_stays(self, read, protocol):
        assert read(pickle.dumps(np.asfortranarray(np.ones((2, 3))), protocol)).flags.f_contiguous
        assert read(pickle.dumps(np.ones((2, 3)), protocol)).flags.c_contiguous


@pytest.mark.parametrize("protocol", [0, 2, 5])  # lines of text; binary; in frames, with arrays as they lie in memory
def test_cut_off_anywhere(read, protocol):
    data = pickle.dumps({"a": ARRAYS[0][:1, :1], "b": ["x", np.array(["é"], object), 1.5]}, protocol)
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"a\.pkl: "):
            read(data[:length])


@given(
    array=hnp.arrays(
        st.one_of(hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?"), hnp.unicode_string_dtypes()),
        hnp.array_shapes(min_dims=0, min_side=0),
    ),
    protocol=st.sampled_from(PROTOCOLS),
    order=st.sampled_from("CF"),
)
def test_round_trip_of_random_arrays(place, array, protocol, order):
    array = np.array(array, order=order)
    place.write_bytes(pickle.dumps(array, protocol))
    assert_same(read_pickle(place), array)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text("a\0\né😀") | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("aé"), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_round_trip_of_random_values(place, value, protocol):
    place.write_bytes(pickle.dumps(value, protocol))
    assert_same(read_pickle(place), value)


PYTHON_2 = (
    b"\x80\x02}q\x00U\x05caf\xc3\xa9q\x01cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
    + np.array([np.pi, -np.e]).tobytes()
    + b"tbs."
)


def test_python_2(read):
    assert_same(read(PYTHON_2), {"café": np.array([np.pi, -np.e])})


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_not_copied(read, protocol):
    array = np.ones(2_000_000, np.float32)
    data = pickle.dumps([array], protocol)
    tracemalloc.start()
    (found,) = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * array.nbytes
    assert not found.flags.owndata and not found.flags.writeable and found.flags.aligned


def hostile(make, *args, protocol=4):
    return pickle.dumps(Reduced(make, args), protocol)


FIRE = f"{__name__}\nfire\n".encode()


@pytest.mark.parametrize("data", [hostile(fire, "x", protocol=protocol) for protocol in PROTOCOLS])
def test_the_canary_would_fire(data):
    pickle.loads(data)
    assert FIRED
    FIRED.clear()


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        *((hostile(fire, "x", protocol=protocol), rf"{__name__}\.fire") for protocol in PROTOCOLS),
        (hostile(os.system, "exit 1"), r"(posix|nt)\.system"),
        (hostile(eval, f"__import__('{__name__}').fire()", protocol=2), r"__builtin__\.eval"),
        (hostile(eval, f"__import__('{__name__}').fire()"), r"builtins\.eval"),
        (hostile(getattr, "x", "format"), r"builtins\.getattr"),
        (hostile(np.fromfile, "/etc/passwd"), r"numpy.*\.fromfile"),
        (hostile(np.load, "a.npy"), r"numpy.*\.load"),
        (pickle.dumps(np.ma.masked_array([1.0])), r"numpy.*\.(MaskedArray|_mareconstruct)"),
        (b"cnumpy.f2py\ncompile\n(S'x'\ntR.", "numpy.f2py.compile"),
        (b"cnumpy.testing._private.utils\nrunstring\n(S'x'\n}tR.", "runstring"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.", r"builtins\.set\.__init__"),
        (b"\x80\x04\x8c\x0bcollections\x8c\x1aOrderedDict.__subclasses__\x93.", r"OrderedDict\.__subclasses__"),
        (b"c" + FIRE + b".", r"\.fire"),
        (b"(S'x'\ni" + FIRE + b".", r"\.fire"),
        (b"(c" + FIRE + b"S'x'\no.", r"\.fire"),
        (b"\x80\x02c" + FIRE + b")\x81.", r"\.fire"),
        (b"\x80\x04c" + FIRE + b")}\x92.", r"\.fire"),
        (b"ccopyreg\n_reconstructor\n(c" + FIRE + b"c__builtin__\nobject\nNtR.", r"copyreg\._reconstructor"),
        (b"ccanary_module\nanything\n.", r"canary_module\.anything"),
    ],
)  # fmt: skip
def test_other_globals_are_refused_by_name(read, tmp_path, monkeypatch, data, asked):
    (tmp_path / "canary_module.py").write_text("anything = print")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=rf"a\.pkl: refers to .*{asked}.*refused.*accepted are"):
        read(data)
    assert "canary_module" not in sys.modules


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"c_codecs\nencode\n(V\x41\nVrot13\ntR.", "codec 'rot13'"),
        (b"c_codecs\nencode\n(c_codecs\nencode\n(V\x41\nVutf-16\ntRVlatin1\ntR.", "codec 'utf-16'"),
        (b"c_codecs\nencode\n(VA\ntR.", "TypeError"),
        (b"c_codecs\nencode\n(V\\u20ac\nVlatin1\ntR.", "UnicodeEncodeError"),
        (b"c_codecs\nencode\n(K\x01Vlatin1\ntR.", "AttributeError"),
        (b"c__builtin__\nbytes\n(I1000000000000\ntR.", "bytes made of int"),
        (b"c__builtin__\nbytearray\n(I1000000000000\ntR.", "bytes made of int"),
        (b"Pname\n.", "outside of the file"),
        (b"Nq\x00Q.", "outside of the file"),
        (b"\x80\x05\x97.", "out-of-band"),
        # attributes of what stands for a function or class
        (b"c_codecs\nencode\n}V__defaults__\n(Vlatin1\ntsb.", "sets attributes of function"),
        (b"c_codecs\nencode\n(N}V__defaults__\n(Vlatin1\ntstb.", "sets attributes of function"),
        (b"cnumpy\nndarray\n}Vfill\nNsb.", "sets attributes of type"),
        (b"cnumpy\ndtype\n}Vfill\nNsb.", "sets attributes of type"),
        (b"]}Vx\nNsb.", "sets attributes of list"),
        (pickle.dumps(scalar_of(dtype_of(), b"8" * 8))[:-1] + b"Nb.", "sets attributes of float64"),
        # stand-ins that are left over
        (b"c_codecs\nencode\n.", "no value"),
        (b"cnumpy\nndarray\n.", "no value"),
        (b"]cnumpy\nndarray\na.", "no value"),
        (b"(cnumpy\nndarray\nNd.", "no value"),
        (b"c__builtin__\nset\n(]c__builtin__\nset\natR.", "no value"),
        (pickle.dumps(np.dtype("f8")), "no value"),
        (pickle.dumps([np.dtype("f8")]), "no value"),
        (pickle.dumps(array_of()), "no value"),
        (pickle.dumps({"a": array_of()}), "no value"),
        (b"cnumpy\nndarray\n)R.", "no value"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "no value"),
        (b"(cnumpy\nndarray\n)RNd.", "unhashable"),
    ],
)  # fmt: skip
def test_misuse_of_what_is_accepted(read, data, words):
    with pytest.raises(DataError, match=rf"a\.pkl: .*{words}"):
        read(data)
    assert pickles._encode.__defaults__ is None
    assert read(pickle.dumps(b"\xff", 2)) == b"\xff"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("code", [b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"])
def test_extension_codes(read, code, cached):
    copyreg.add_extension(__name__, "fire", 240)
    try:
        if cached:
            pickle.loads(b"\x80\x02" + code + b".")
        with pytest.raises(DataError, match="extension 240"):
            read(b"\x80\x02" + code + b")R.")
        assert (240 in copyreg._extension_cache) == cached
    finally:
        copyreg.remove_extension(__name__, "fire", 240)


F8 = dtype_of()
O8 = dtype_of("O8", (3, "|", None, None, None, -1, -1, 63))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (array_of(1, (3,), F8, False, b"8" * 16), r"of 16 bytes, but its shape and type take 24"),
        (array_of(1, (1,), F8, False, b"8" * 16), r"of 16 bytes, but its shape and type take 8"),
        (array_of(1, (), F8, False, b""), r"of 0 bytes, but its shape and type take 8"),
        (array_of(1, (10**6, 10**6, 10**6), F8, False, b"8" * 16), "of 16 bytes"),
        (array_of(1, (2**62, 4), F8, False, b""), "of 0 bytes"),
        (array_of(1, (10**30, 0), F8, False, b""), "ValueError"),
        (array_of(1, (-2, -1), F8, False, b"8" * 16), "impossible shape"),
        (array_of(1, (2.0,), F8, False, b"8" * 16), "impossible shape"),
        (array_of(1, ("ab",), F8, False, b"8" * 16), "impossible shape"),
        (array_of(1, (1,) * 65, F8, False, b"8" * 8), "impossible shape"),
        (array_of(1, 2, F8, False, b"8" * 16), "TypeError"),
        (array_of(1, (2,), "f8", False, b"8" * 16), "AttributeError"),
        (array_of(1, (2,), None, False, b"8" * 16), "AttributeError"),
        (array_of(1, (2,), F8, False, 16), "int as its content"),
        (array_of(1, (2,), F8, False, [1.0, 2.0]), "list as its content"),
        (array_of(1, (2,), F8, False), "ValueError"),
        (array_of(1, (2,), F8, False, b"8" * 16, None), "ValueError"),
        (array_of(1, (2,), O8, False, b"8" * 16), "bytes as its content"),
        (array_of(1, (2,), O8, False, [1]), "of 1 items, but its shape and type take 2"),
        (array_of(1, (10**12,), O8, False, [1]), "of 1 items"),
        (array_of(1, (1,), O8, False, [array_of()]), "no value"),
        (array_of(args=(set, (0,), b"b")), "another class"),
        (array_of(args=("ndarray", (0,), b"b")), "another class"),
        (array_of(1, (1,), dtype_of("V8"), False, b"8" * 8), "type 'V8'"),
        (array_of(1, (1,), dtype_of("M8"), False, b"8" * 8), "type 'M8'"),
        (array_of(1, (1,), dtype_of("f8,f8"), False, b"8" * 16), "type 'f8,f8'"),
        (array_of(1, (1,), dtype_of("(1000000,1000000)f8"), False, b""), "refused"),
        (array_of(1, (10**12,), dtype_of("S0"), False, b""), "type 'S0'"),
        (array_of(1, (10**12,), dtype_of("U"), False, b""), "type 'U'"),
        (array_of(1, (1,), dtype_of("f3"), False, b"888"), "TypeError"),
        (array_of(1, (1,), dtype_of("U999999999"), False, b""), "DataError|ValueError|TypeError"),
        (array_of(1, (1,), dtype_of(7), False, b"8" * 8), "TypeError"),
        (array_of(1, (1,), dtype_of(state=(3, "x", None, None, None, -1, -1, 0)), False, b"8" * 8), "ValueError"),
        (array_of(1, (1,), dtype_of(state=(3, "<", ("f8", (2,)), None, None, -1, -1, 0)), False, b"8" * 8), "struct"),
        (array_of(1, (1,), dtype_of(state=(3, "<", None, ("a",), {"a": 1}, -1, -1, 0)), False, b"8" * 8), "struct"),
        (array_of(1, (1,), dtype_of(state="state"), False, b"8" * 8), "refused|ValueError"),
        (array_of(1, (1,), dtype_of("U1", (3, "<", None, None, None, 4, 4, 8)), False, b"\xff" * 4), "no pickle"),
        (frombuffer_of(b"8" * 16, np.dtype("f8"), (3,), "C"), "of 16 bytes"),
        (frombuffer_of(b"8" * 16, np.dtype("f8"), (2,), "Z"), "ValueError"),
        (frombuffer_of(b"8" * 16, np.dtype("f8"), (2,), "K", (5,)), "AxisError|ValueError"),
        (frombuffer_of(b"8" * 16, np.dtype("f8")), "TypeError"),
        (scalar_of(np.dtype("f8"), b"8" * 16), "of 16 bytes"),
        (scalar_of(np.dtype("f8")), "TypeError"),
        (scalar_of(np.dtype("f8"), 8), "int as its content"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_add_up(read, value, words):
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"a\.pkl: .*({words})"):
        read(pickle.dumps(value, 5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_text_with_many_empty_rows_takes_no_memory(read):
    text = dtype_of("U1", (3, "<", None, None, None, 4, 4, 8))
    assert read(pickle.dumps(array_of(1, (10**15, 0), text, False, b""))).shape == (10**15, 0)


def test_a_state_on_a_finished_array(read):
    data = pickle.dumps(np.arange(2.0), 5)[:-1] + b"(K\x01K\x05\x85NNNtb."
    with pytest.raises(DataError):
        read(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no pickle, or one that is cut off"),
        (b"\x80", "no pickle"),
        (b".", "IndexError|no pickle"),
        (b"hello world", "no pickle, or a damaged one"),
        (b"id,text\n1,x\n", "refers to 'd,text"),  # "i" is followed by a module and a name
        (b"PK\x03\x04" + bytes(60), "no pickle|outside"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "no pickle, or a damaged one"),
        (b"\xff" * 100, "KeyError"),
        (b"\x80\x99N.", "protocol"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "cut off"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fN.", "cut off"),
        (b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00N.", "cut off"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "UnicodeDecodeError"),
        (b"]" * 100_000 + b"a" * 99_999 + b".", "nested too deeply"),
        (b"]" + b"\x85" * 100_000 + b".", "nested too deeply"),
        (b"N})" + b"\x85" * 1000 + b"Ns0.", "nested too deeply"),  # hashed and thrown away
        (b"N}(" + b"(" * 1000 + b"t" * 1000 + b"Nu0.", "nested too deeply"),
        (b"N.N.", "more data follows"),
        (b"g5\n.", "KeyError|UnpicklingError"),
        (b"a.", "IndexError|no pickle"),
        (b"]q\x00h\x00a.", "contains itself"),
        (b"}q\x00K\x01h\x00s.", "contains itself"),
        (b"]q\x00h\x00\x85a.", "contains itself"),
    ],
)
def test_bytes_that_are_wrong(read, data, words):
    with pytest.raises(DataError, match=rf"a\.pkl: .*({words})"):
        read(data)


@pytest.mark.parametrize("protocol", [2, 4])
def test_values_that_contain_themselves(read, protocol):
    items, table, array = [], {}, np.empty(1, dtype=object)
    items.append((items,))
    table["me"] = [table]
    array[0] = [array]
    for value in (items, table, array):
        with pytest.raises(DataError, match="contains itself"):
            read(pickle.dumps(value, protocol))


def test_values_that_are_shared_many_times(read):
    value = np.zeros(1)
    for _ in range(60):
        value = [value, value, {"a": value}]
    found = read(pickle.dumps(value))
    while isinstance(found, list):
        assert found[0] is found[1] is found[2]["a"]
        found = found[0]
    assert_same(found, np.zeros(1))


def test_a_high_memo_index_takes_no_memory(read):
    tracemalloc.start()
    assert read(b"\x80\x02Nr\xff\xff\xff\x00.") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


BASES = [
    pickle.dumps(Reduced(fire, ("x",)), 2),
    pickle.dumps(Reduced(fire, ("x",)), 4),
    *(
        pickle.dumps({"a": ARRAYS[0], "b": [ARRAYS[16], (1, "é", b"\xff")], "c": ARRAYS[19]}, protocol)
        for protocol in PROTOCOLS
    ),
    PYTHON_2,
]


@st.composite
def damaged(draw):
    """A pickle with a few pieces replaced, left out or put in."""
    data = draw(st.sampled_from(BASES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 8))
        data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data


@given(data=st.one_of(st.binary(max_size=100), damaged()))
def test_any_bytes_give_a_value_or_a_data_error(place, data):
    place.write_bytes(data)
    try:
        found = read_pickle(place)
    except DataError as error:
        assert place.name in str(error)
    else:
        pickle.dump(found, io.BytesIO())  # a value through and through
    assert not FIRED


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OSError, OverflowError])
def test_errors_while_reading(read, monkeypatch, error):
    def fail(*args):
        raise error("no")

    monkeypatch.setattr(pickles._Unpickler, "load", fail)
    with pytest.raises(DataError, match=r"a\.pkl: "):
        read(b"N.")


@pytest.mark.parametrize("function", [read_pickle, sha256_of])
def test_missing_file(tmp_path, function):
    for name in ("nothing.pkl", "."):
        with pytest.raises(FileNotFoundError, match="no such file"):
            function(tmp_path / name)


@pytest.mark.parametrize("size", [0, 5, 3 << 20])
def test_sha256(tmp_path, size):
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == sha256_of(str(tmp_path / "a")) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("module", "words"),
    [("torch._utils", r"tensor\.numpy\(\)"), ("pandas.core.frame", "to_dict"), ("os", r"these\.$")],
)
def test_classes_of_libraries_come_with_the_way_out(tmp_path, module, words):
    (tmp_path / "a.pkl").write_bytes(f"c{module}\nrebuild\n.".encode())
    with pytest.raises(DataError, match=rf"'{module}\.rebuild', which is refused, .*{words}"):
        read_pickle(tmp_path / "a.pkl")
