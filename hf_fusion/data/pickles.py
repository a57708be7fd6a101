"""Pickles of plain values and numpy arrays, read without running anything that a file asks for."""

import hashlib
import math
import os
import pickle
import re
from pathlib import Path

import numpy as np

from hf_fusion.utils.errors import DataError

MAX_KEY = 300  # values in a key of a dict or a member of a set
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Advice for files of libraries that keep data in their own classes.
_CONVERT = {
    "torch": "; write tensors as arrays (tensor.numpy(); MMSA-FET: return_type='np')",
    "pandas": "; write columns as arrays or lists (frame.to_dict('list'))",
}
_DTYPE = re.compile("[biufcSU][1-9][0-9]{0,8}|O[0-9]?")  # bool, int, unsigned, float, complex, bytes, text; objects
_ACCEPTED = "accepted are plain values, lists, tuples, dicts, sets and numpy arrays of numbers, text or these"


def read_pickle(path: str | os.PathLike) -> object:
    """
    The object in a pickle of any protocol, written by Python 2 or 3 and numpy 1 or 2; no code of the file is run.

    None, bools, numbers, strings, bytes, lists, tuples, dicts, sets, numpy arrays and numpy scalars are read. An
    ordered dict comes as a dict, a bytearray as bytes. Arrays are read-only views of what was read, without a copy.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if the file is damaged or holds anything else; names the function or class that it refers to.
    """
    with _open(path) as file:
        try:
            # Python 2 has one type for text and bytes: this reads UTF-8, and any other bytes can be had back from it
            value = _Unpickler(_File(file), encoding="utf-8", errors="surrogateescape").load()
            if file.read(1):
                raise ValueError("more data follows after the end")
            return _Finisher().finish(value)
        except DataError as error:
            raise DataError(f"{path}: {error}.") from error
        except EOFError as error:
            raise DataError(f"{path}: no pickle, or one that is cut off; get the file again.") from error
        except MemoryError as error:
            raise DataError(f"{path}: does not fit into memory, or is damaged.") from error
        except RecursionError as error:
            raise DataError(f"{path}: values are nested too deeply.") from error
        except Exception as error:  # wrong bytes can make an opcode fail in any way
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            raise DataError(f"{path}: no pickle, or a damaged one ({reason}).") from error


def sha256_of(path: str | os.PathLike) -> str:
    """
    SHA-256 of a file in hexadecimal digits; reads it piece by piece.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    digest = hashlib.sha256()
    with _open(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _open(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    return open(path, "rb")


class _File:
    """Refuses reads beyond the file's size, so that a forged length cannot allocate memory."""

    def __init__(self, file):
        self.file, self.readline = file, file.readline
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size):
        if size > self.size:
            raise EOFError
        return self.file.read(size)


# Stand-ins for what pickles of arrays refer to: numpy's own functions trust sizes and types that a file gives.


class _DType:
    """Stands for `numpy.dtype(name, align, copy)`; the state that follows tells the order of the bytes."""

    def __init__(self, name, align=False, copy=False):
        if not _DTYPE.fullmatch(name):
            raise DataError(f"holds an array of type {name!r}, which is refused; {_ACCEPTED}")
        self.type = np.dtype(name)

    def __setstate__(self, state):
        _, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise DataError(f"holds an array of a structured type, which is refused; {_ACCEPTED}")
        if order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array whose order of bytes is {order!r}")
        self.type = np.dtype(order + self.type.str[1:])


class _Array:
    """Stands for an array: made empty, then filled."""

    __hash__ = None  # as an array: no stand-in is the key of a dict
    array = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, raw = state
        self.fill(raw, dtype, shape, "F" if is_fortran else "C")

    def fill(self, raw, dtype, shape, order):
        if len(shape) > 64 or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError("an array with an impossible shape")
        if isinstance(raw, str):  # of Python 2, see read_pickle
            raw = raw.encode("utf-8", "surrogateescape")
        objects = dtype.type.hasobject
        if type(raw) is not (list if objects else bytes):
            raise ValueError(f"an array with {type(raw).__name__} as its content")
        expected = math.prod(shape) * (1 if objects else dtype.type.itemsize)
        if len(raw) != expected:
            unit = "items" if objects else "bytes"
            raise ValueError(f"an array of {len(raw):,} {unit}, but its shape and type take {expected:,}")
        if objects:  # which numpy writes in C order in any case; `fromiter` takes an item as it is, be it a list
            self.array = np.fromiter(raw, dtype=object, count=expected).reshape(shape)
        else:
            self.array = np.ndarray(shape, dtype.type, raw, order=order)
        if dtype.type.kind == "U" and raw:
            self.array.tolist()  # fails here rather than later where it is no Unicode


def _reconstruct(kind, shape, code):
    if kind is not _Array:
        raise ValueError("an array of another class than numpy.ndarray")
    return _Array()


def _frombuffer(raw, dtype, shape, order, axes=None):
    made = _Array()
    made.fill(raw, dtype, shape, "C" if order == "K" else order)
    if axes is not None:
        made.array = made.array.transpose(axes)
    return made


def _scalar(dtype, raw):
    made = _Array()
    made.fill(raw, dtype, (), "C")
    return made.array[()]


def _encode(text, encoding):
    # how Python 3 writes bytes where the protocol has none
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"refers to the codec {encoding!r}, which is refused; accepted is latin1")
    return text.encode("latin1")


def _set(items=()):
    return set(map(_checked_key, items))


def _frozenset(items=()):
    return frozenset(map(_checked_key, items))


def _ordered_dict(items=()):
    return {_checked_key(key): value for key, value in items}


def _bytes(raw=b""):
    if type(raw) is not bytes:  # a number would be a size
        raise ValueError(f"bytes made of {type(raw).__name__}")
    return raw


_GLOBALS = {
    "numpy": {"ndarray": _Array, "dtype": _DType},
    "numpy.core.multiarray": {"_reconstruct": _reconstruct, "scalar": _scalar},
    "numpy.core.numeric": {"_frombuffer": _frombuffer},
    "_codecs": {"encode": _encode},
    "builtins": {"set": _set, "frozenset": _frozenset, "complex": complex, "bytes": _bytes, "bytearray": _bytes},
    "collections": {"OrderedDict": _ordered_dict},
}
for _old, _new in (("numpy.core.multiarray", "numpy._core.multiarray"), ("numpy.core.numeric", "numpy._core.numeric")):
    _GLOBALS[_new] = _GLOBALS[_old]
_GLOBALS["__builtin__"] = _GLOBALS["builtins"]


def _checked_key(key):
    """
    The key, if it is a small one: a tuple is hashed and compared item by item each time, and 60 bytes are enough for a
    tuple of twice the same tuple of twice the same ... of 2 ** 50 items. Nested too deeply it crashes Python.
    """
    size, waiting = 0, [key]
    while waiting:
        item = waiting.pop()
        if isinstance(item, int):
            size += item.bit_length() // 64
        elif isinstance(item, (str, bytes)):
            size += len(item) // 64
        elif isinstance(item, (tuple, frozenset)):
            size += len(item)
        if size > MAX_KEY:
            raise DataError("holds a key that is nested too deeply or too long, which is refused")
        if isinstance(item, (tuple, frozenset)):
            waiting.extend(item)
    return key


def _checking(load, keys):
    """The opcode `load`, which hashes the `keys` of what lies on the stack."""

    def checked(self):
        for key in self.stack[keys]:
            _checked_key(key)
        load(self)

    return checked


class _Unpickler(pickle._Unpickler):
    """
    Calls nothing but the stand-ins.

    It builds on the unpickler written in Python. The one in C takes gigabytes for nine bytes (a high memo index), hands
    out what an extension code meant before, and sets attributes of whatever `find_class` returns.
    """

    def find_class(self, module, name):
        if name not in _GLOBALS.get(module, {}):
            raise _refused(f"refers to {f'{module}.{name}'[:100]!r}", _CONVERT.get(module.partition(".")[0], ""))
        return _GLOBALS[module][name]

    def get_extension(self, code):
        raise _refused(f"refers to the extension {code}")

    def persistent_load(self, pid):
        raise _refused("refers to an object outside of the file")

    def load_build(self):
        if type(self.stack[-2]) not in (_Array, _DType):
            raise _refused(f"sets attributes of {type(self.stack[-2]).__name__}")
        super().load_build()

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,  # a bytearray is filled before it is read
        pickle.SETITEM[0]: _checking(pickle._Unpickler.load_setitem, slice(-2, -1)),
        pickle.SETITEMS[0]: _checking(pickle._Unpickler.load_setitems, slice(None, None, 2)),
        pickle.DICT[0]: _checking(pickle._Unpickler.load_dict, slice(None, None, 2)),
        pickle.ADDITEMS[0]: _checking(pickle._Unpickler.load_additems, slice(None)),
        pickle.FROZENSET[0]: _checking(pickle._Unpickler.load_frozenset, slice(None)),
    }


def _refused(what, way_out=""):
    return DataError(f"{what}, which is refused, as it may run code; {_ACCEPTED}{way_out}")


class _Finisher:
    """Puts arrays in the place of their stand-ins; lists and dicts are changed where they are."""

    def __init__(self):
        self.done = {}  # by id: the value, kept so that its id is not used again, and what became of it

    def finish(self, value):
        if type(value) in _PLAIN or isinstance(value, np.generic):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = (value, None)
            self.done[id(value)] = (value, self._finished(value))
        result = self.done[id(value)][1]
        if result is None:
            raise DataError("holds a list, dict or array that contains itself, which is refused")
        return result

    def _finished(self, value):
        if type(value) is list:
            value[:] = [self.finish(item) for item in value]
        elif type(value) is dict:
            for key in list(value):
                self.finish(key)
                value[key] = self.finish(value[key])
        elif type(value) is tuple:
            value = tuple([self.finish(item) for item in value])
        elif type(value) in (set, frozenset):
            for item in value:
                self.finish(item)
        elif type(value) is _Array and value.array is not None:
            value = value.array
            if value.dtype.hasobject:
                for index in np.ndindex(value.shape):
                    value[index] = self.finish(value[index])
        else:
            raise DataError(f"holds something that is no value; {_ACCEPTED}")
        return value
