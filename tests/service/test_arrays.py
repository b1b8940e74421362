"""npy and npz: every array survives, nothing is unpickled, and no header is believed further than its bytes go."""

from __future__ import annotations

import io
import json
import pickle
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.api.arrays import HEADER_BYTES, arrays_of, metadata, read_npy, write_npy, write_npz
from service.api.problems import ProblemError

NUMERIC = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes(endianness="?")
    | arrays.unsigned_integer_dtypes(endianness="?")
    | arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64))
)


def saved(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def with_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    header = text.encode("latin-1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + data


def refused(body: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as found:
        read_npy(body)
    return found.value


@given(
    arrays.arrays(NUMERIC, arrays.array_shapes(max_dims=4, max_side=5)),
    st.booleans(),
    st.sampled_from([(1, 0), (2, 0)]),
)
def test_numbers_of_every_kind_and_order_survive_bit_for_bit(
    array: Any, fortran: bool, version: tuple[int, int]
) -> None:
    given_ = np.asfortranarray(array) if fortran else array
    back = read_npy(saved(given_, version=version))
    assert back.dtype.isnative
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert read_npy(write_npy(back)).tobytes() == back.tobytes()


def test_a_header_of_odd_length_does_not_bend_the_numbers() -> None:
    array = np.arange(6.0).reshape(3, 2)
    body = with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n", array.tobytes())
    back = read_npy(body)
    assert back.flags.aligned
    assert np.array_equal(back, array)


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def test_objects_are_refused_and_never_unpickled() -> None:
    body = with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps(Bomb()))
    problem = refused(body)
    assert problem.status == 422
    assert "object" in problem.detail
    assert "float64" in problem.detail


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a"]),
        np.array([b"a"]),
        np.array([1j]),
        np.array([1j], dtype=np.complex64),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, dtype=[("a", "f8")]),
        np.zeros(2, dtype="V8"),
        np.zeros((1, 2), dtype=np.longdouble),
    ],
)
def test_what_are_no_numbers_is_422_with_what_was_expected(array: Any) -> None:
    problem = refused(saved(array))
    assert problem.status == 422
    assert problem.members["expected"].startswith("numbers: bool")


@pytest.mark.parametrize("shape", [(), (0, 2), (2, 0), (2**60, 0)])
def test_an_array_without_rows_is_422(shape: tuple[int, ...]) -> None:
    body = with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}", b"" if shape else b"\0" * 8)
    problem = refused(body)
    assert problem.status == 422
    assert "at least one row" in problem.detail


GOOD = saved(np.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"[[0, 1]]", "does not start"),
        (write_npz({"x": np.zeros(2)}), "does not start"),
        (GOOD[:6], "cannot be read"),
        (GOOD[:40], "cannot be read"),
        (GOOD[:-1], "48 bytes, and 47 bytes follow"),
        (GOOD + b"\0", "48 bytes, and 49 bytes follow"),
        (GOOD[:128], "and 0 bytes follow"),
        (GOOD.replace(b"NUMPY\x01", b"NUMPY\x03"), "format version 3.0"),
        (GOOD.replace(b"NUMPY\x01", b"NUMPY\x09"), "cannot be read"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -8), }", b"\0" * 64), "the shape"),
        (with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(1,) * 40}, }}", b"\0"), "the shape"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (2**62, 2**62), }"), "cannot be read"),
        (with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62}), }}"), "0 bytes follow"),
        (with_header("{'descr': '<f8', 'fortran_order': 1, 'shape': (1,), }"), "fortran_order"),
        (with_header("{'descr': '<q9', 'fortran_order': False, 'shape': (1,), }"), "descr"),
        (with_header("{'shape': (1,)}"), "cannot be read"),
        (with_header("__import__('os').abort()"), "cannot be read"),
        (with_header("(" * 9000), "cannot be read"),
        (with_header("[" * 9000 + "]" * 900), "cannot be read"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }" + " " * 60_000), "cannot be read"),
        (with_header("\xff\xfe"), "cannot be read"),
    ],
)
def test_what_is_no_npy_file_is_400(body: bytes, words: str) -> None:
    problem = refused(body)
    assert problem.status == 400
    assert words in problem.detail
    assert "\n" not in problem.detail
    assert len(problem.detail) < 400


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x20\x00"]))
def test_no_bytes_are_worse_than_a_refusal(data: bytes, start: bytes) -> None:
    assert refused(start + data).status in (400, 422)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_byte_that_was_changed_gives_an_array_or_a_refusal(place: int, value: int) -> None:
    body = bytearray(GOOD)
    body[place] = value
    with suppress(ProblemError):
        array = read_npy(bytes(body))
        assert array.dtype.kind in "biuf"
        assert array.nbytes == 48


# -- out -----------------------------------------------------------------------------------------------------------


def test_an_npz_file_is_numpys_and_equal_arrays_give_equal_bytes() -> None:
    given_ = {"score": np.array([0.5, np.nan]), "is_anomaly": np.array([True, False]), "statistics.a": np.zeros((2, 1))}
    content = write_npz(given_)
    assert content == write_npz({name: array.copy() for name, array in given_.items()})
    with np.load(io.BytesIO(content), allow_pickle=False) as back:
        assert list(back) == list(given_)
        for name, array in given_.items():
            assert np.array_equal(back[name], array, equal_nan=array.dtype.kind == "f")


def test_arrays_of_an_answer_are_found_wherever_they_are() -> None:
    body = {"a": np.zeros(2), "b": {"c": np.ones(2), "d": 1}, "e": "f", "g": None}
    assert list(arrays_of(body)) == ["a", "b.c"]
    assert metadata({**body, "n_calibration": 7}) == {"Nonesuch-E": "f", "Nonesuch-N-Calibration": "7"}


@given(
    st.recursive(
        st.text(max_size=20)
        | st.integers(-(2**53), 2**53)
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
)
def test_whatever_is_said_is_sound_as_a_header(value: Any) -> None:
    text = metadata({"it": value})["Nonesuch-It"]
    assert text.isascii()
    assert text.isprintable()
    if not isinstance(value, str) or text != value:
        assert json.loads(text) == value


def test_what_is_too_long_for_a_header_is_left_out() -> None:
    assert metadata({"columns": ["x" * HEADER_BYTES]}) == {}
    assert metadata({"guarantee": "x" * HEADER_BYTES}) == {"Nonesuch-Guarantee": "x" * HEADER_BYTES}
