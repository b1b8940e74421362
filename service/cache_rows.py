"""What the cache keeps: one record a row, under one key a row, sealed with a tag where it leaves the process."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from contract.digest import canonical

__all__ = ["KEY_BYTES", "TAG_BYTES", "Layout", "Records", "Seal", "row_keys"]

Layout = Mapping[str, tuple[DTypeLike, tuple[int, ...]]]
"""Outputs of one row by name: dtype and shape without the batch."""

KEY_BYTES = 32
TAG_BYTES = 16

# BLAKE2b's personalisation keeps keys and tags apart from each other and from every other use of the function.
_KEY_PERSON = b"nonesuch-key-1"
_TAG_PERSON = b"nonesuch-tag-1"
_SECRET_PERSON = b"nonesuch-sec-1"


class Records:
    """A layout as packed little-endian records: how the outputs of one row become bytes, and bytes outputs.

    Attributes:
        dtype: NumPy structured dtype of one record, without padding.
        size: bytes of one record.
        description: names, dtypes and shapes in one unambiguous string of bytes.
    """

    def __init__(self, layout: Layout):
        fields = [
            (name, np.dtype(dtype).newbyteorder("<"), tuple(int(length) for length in shape))
            for name, (dtype, shape) in layout.items()
        ]
        if any(dtype.hasobject for _, dtype, _ in fields):
            raise TypeError("objects have no bytes to cache")
        self.dtype = np.dtype(fields)
        self.size = self.dtype.itemsize
        self.description = json.dumps([[name, dtype.str, shape] for name, dtype, shape in fields]).encode()

    @staticmethod
    def of(layout: Layout) -> Records:
        """The records of a layout, made once."""
        return _records(tuple((name, np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()))

    def pack(self, arrays: Mapping[str, NDArray[Any]], n: int) -> NDArray[np.void]:
        """Arrays [n, …] by name -> records [n].

        Raises:
            ValueError: an array is absent, or has another dtype or shape than the layout says.
        """
        records = np.empty(n, dtype=self.dtype)
        for name in self.dtype.names or ():
            wanted = records[name]
            if name not in arrays:
                raise ValueError(f"the output {name!r} was not computed")
            array = arrays[name]
            if array.dtype.newbyteorder("<") != wanted.dtype or array.shape != wanted.shape:
                raise ValueError(
                    f"the output {name!r} should be {wanted.dtype} {list(wanted.shape)}, "
                    f"not {array.dtype} {list(array.shape)}"
                )
            records[name] = array
        return records

    def unpack(self, records: NDArray[np.void]) -> dict[str, NDArray[Any]]:
        """Records [n] -> contiguous arrays [n, …] by name, in the machine's own byte order."""
        return {
            name: np.ascontiguousarray(records[name], dtype=records[name].dtype.newbyteorder("="))
            for name in self.dtype.names or ()
        }

    def split(self, records: NDArray[np.void]) -> list[bytes]:
        """Records [n] -> the bytes of each."""
        data = records.tobytes()
        return [data[start : start + self.size] for start in range(0, len(data), self.size)]

    def join(self, values: Iterable[bytes]) -> NDArray[np.void]:
        """The bytes of n records -> records [n], read-only."""
        return np.frombuffer(b"".join(values), dtype=self.dtype)


@lru_cache(maxsize=1024)
def _records(fields: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> Records:
    return Records({name: (dtype, shape) for name, dtype, shape in fields})


def row_keys(
    *,
    program_digest: str,
    profile: str,
    operation: str,
    inputs: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """Keys of n rows: BLAKE2b of everything that an answer depends on, and of nothing else.

    Each part is hashed with its length or has a fixed one, so that no two questions run into the same bytes. The
    order of ``inputs`` and of ``parameters`` does not matter; the place of a row among its neighbours does not enter.

    Args:
        program_digest: digest of the program, its graphs and its weights; for scores with the calibration's appended.
        profile: numeric profile in which the rows are computed.
        operation: what is asked, such as ``log_prob``.
        inputs: what differs from row to row, arrays [n, …] by name: the rows themselves, codes, or seed and row
            (int64 [n]), and per-row parameters.
        parameters: what is the same for all rows, as JSON values, such as the number of steps.

    Returns:
        n keys of ``KEY_BYTES`` bytes. Takes about a microsecond a row; ``RowCache.keys`` lets others run in between.

    Raises:
        ValueError: no inputs, or arrays of different lengths.
    """
    lengths = {len(array) for array in inputs.values()}
    if len(lengths) != 1:
        raise ValueError("row_keys needs inputs of one common length")
    (n,) = lengths
    ordered = {name: inputs[name] for name in sorted(inputs)}
    records = Records.of({name: (array.dtype, array.shape[1:]) for name, array in ordered.items()})
    head = _head(program_digest, profile, operation, canonical(dict(parameters)) if parameters else b"{}", records)
    data = memoryview(records.pack(ordered, n).tobytes())
    keys = []
    for start in range(0, n * records.size, records.size):
        row = head.copy()
        row.update(data[start : start + records.size])
        keys.append(row.digest())
    return keys


@lru_cache(maxsize=1024)
def _head(program_digest: str, profile: str, operation: str, parameters: bytes, records: Records) -> blake2b:
    head = blake2b(digest_size=KEY_BYTES, person=_KEY_PERSON)
    for part in (program_digest.encode(), profile.encode(), operation.encode(), parameters, records.description):
        head.update(len(part).to_bytes(8, "little") + part)
    return head


class Seal:
    """Tags that tie a value to its key, its layout and, given a secret, to those who know the secret.

    Without a secret the tag finds corruption; with one, BLAKE2b is a message authentication code, and whoever can
    write to the store but lacks the secret cannot make a value that passes.
    """

    def __init__(self, secret: bytes = b""):
        # BLAKE2b takes keys of 64 bytes at most; hashing first lets a secret have any length.
        self._secret = blake2b(secret, digest_size=64, person=_SECRET_PERSON).digest() if secret else b""

    def close(self, records: Records, keys: Sequence[bytes], values: Sequence[bytes]) -> list[bytes]:
        """Values with their tags in front."""
        base = self._base(records)
        return [self._tag(base, key, value) + value for key, value in zip(keys, values, strict=True)]

    def open(self, records: Records, keys: Sequence[bytes], sealed: Sequence[Any]) -> tuple[list[bytes | None], int]:
        """Values without their tags.

        Args:
            records: the layout that the values must have.
            keys: n keys.
            sealed: what the store said, n objects; None is "not there".

        Returns:
            (values, wrong): None for whatever is not there or does not pass, and how many did not pass.
        """
        base = self._base(records)
        length = TAG_BYTES + records.size
        values: list[bytes | None] = []
        wrong = 0
        for key, given in zip(keys, sealed, strict=True):
            value = None
            if given is not None:
                if isinstance(given, bytes) and len(given) == length:
                    body = given[TAG_BYTES:]
                    if hmac.compare_digest(given[:TAG_BYTES], self._tag(base, key, body)):
                        value = body
                wrong += value is None
            values.append(value)
        return values, wrong

    def _base(self, records: Records) -> blake2b:
        base = blake2b(key=self._secret, digest_size=TAG_BYTES, person=_TAG_PERSON)
        base.update(len(records.description).to_bytes(8, "little") + records.description)
        return base

    @staticmethod
    def _tag(base: blake2b, key: bytes, value: bytes) -> bytes:
        tag = base.copy()
        tag.update(len(key).to_bytes(8, "little"))
        tag.update(key)
        tag.update(value)
        return tag.digest()
