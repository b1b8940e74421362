"""Arrays in and out: NumPy's own file formats, npy for one array and npz for several.

A body is read without any unpickling: the header is NumPy's to parse, and what it promises is held against the bytes
that came. Members of an answer that are no arrays travel as headers ``Nonesuch-…``.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from service.api.codecs import dump
from service.api.problems import ProblemError

__all__ = ["arrays_of", "metadata", "read_npy", "write_npy", "write_npz"]

_MAGIC = b"\x93NUMPY"
_NUMERIC = "numbers: bool, integers of up to 64 bits, or float16, float32 or float64"
_LONGEST_HEADER = 10_000
_MOST_AXES = 32  # of any array, in every version of NumPy

HEADER_BYTES = 1024
"""The longest header that an answer carries; servers and proxies in between often allow 8 KiB for all of them."""


# -- in ------------------------------------------------------------------------------------------------------------


def read_npy(body: bytes | bytearray) -> NDArray[Any]:
    """The array in an npy file, in the machine's own byte order; a view of the body where that is possible.

    Raises:
        ProblemError: 400 when it is no npy file or has too few or too many bytes, 422 when it holds no numbers.
    """
    if not body:
        raise _unparsable("the body is empty; expected an npy file")
    if not body.startswith(_MAGIC):
        raise _unparsable(f"the body does not start as npy files do, with {_MAGIC!r}")
    shape, fortran, dtype, start = _header(body)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ProblemError(
            "invalid-input",
            f"the npy file: expected {_NUMERIC}, got the dtype {str(dtype)[:80]}",
            expected=_NUMERIC,
            got=str(dtype)[:80],
        )
    if not shape or not prod(shape):
        at_least = "an array of at least one row, and of numbers in it"
        raise ProblemError(
            "invalid-input",
            f"the npy file: expected {at_least}, got one of shape {str(list(shape))[:80]}",
            expected=at_least,
            got=f"an array of shape {str(list(shape))[:80]}",
        )
    wanted = prod(shape) * dtype.itemsize
    if len(body) - start != wanted:
        raise _unparsable(
            f"the npy file: its header promises an array {str(list(shape))[:80]} of {dtype}, {wanted} bytes, "
            f"and {len(body) - start} bytes follow",
            expected=f"{wanted} bytes after the header",
            got=f"{len(body) - start} bytes",
        )
    array: NDArray[Any] = np.frombuffer(body, dtype=dtype, offset=start)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    if not dtype.isnative or not array.flags.aligned:
        array = array.astype(dtype.newbyteorder("="))
    return array


def _header(body: bytes | bytearray) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and where the numbers start."""
    start = 12 if body[6:7] == b"\2" else 10  # its length is four bytes in version 2, and two before
    length = int.from_bytes(body[8:start], "little")
    return _parsed(bytes(body[: min(start + length, _LONGEST_HEADER + 12)]))  # no longer header is read


# To parse a header costs more than all the rest, and a client's questions mostly have the same one.
@lru_cache(maxsize=256)
def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    file = io.BytesIO(header)
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version[0]}.{version[1]} where 1.0 or 2.0 was expected")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
        if any(side < 0 for side in shape) or len(shape) > _MOST_AXES:
            raise ValueError(f"the shape {str(shape)[:80]}")
    except Exception as error:  # whatever its parser stumbles over in a header that a stranger wrote
        words = re.sub(r"\s+", " ", str(error))[:200]
        raise _unparsable(f"the header of the npy file cannot be read: {words}") from None
    return shape, fortran, dtype, file.tell()


def _unparsable(detail: str, expected: str = "an npy file", got: str | None = None) -> ProblemError:
    return ProblemError("unparsable", detail, expected=expected, got=got)


# -- out -----------------------------------------------------------------------------------------------------------


def arrays_of(body: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of an answer by name; one inside an object is named ``object.name``."""
    found: dict[str, NDArray[Any]] = {}
    for name, value in body.items():
        if isinstance(value, np.ndarray):
            found[name] = value
        elif isinstance(value, Mapping):
            found |= {f"{name}.{inner}": part for inner, part in arrays_of(value).items()}
    return found


def write_npy(array: NDArray[Any]) -> bytes:
    """An array as an npy file."""
    return _written_header(array.dtype, array.shape) + array.tobytes()


@lru_cache(maxsize=256)
def _written_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    if dtype.hasobject:
        raise ValueError("an array of objects is not written: its bytes are addresses")
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return file.getvalue()


def write_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as an npz file, uncompressed; equal arrays give equal bytes, since its members carry no time."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), write_npy(array))
    return file.getvalue()


def metadata(body: Mapping[str, Any]) -> dict[str, str]:
    """Headers for what an answer says beside its arrays: ``n_calibration`` becomes ``Nonesuch-N-Calibration``.

    Strings of printable ASCII stand as they are; every other value is JSON in ASCII. What is null, or too long for a
    header, is left out.
    """
    headers = {}
    for name, value in body.items():
        if value is None or isinstance(value, np.ndarray) or (isinstance(value, Mapping) and arrays_of(value)):
            continue
        plain = isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip()
        text = value if plain else re.sub(r"[^ -~]", _escaped, dump(value).decode())
        if len(text) <= HEADER_BYTES:
            headers["-".join(["Nonesuch", *(word.capitalize() for word in name.split("_"))])] = text
    return headers


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
