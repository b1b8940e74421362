"""Rows as PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from contract.support import Column, Support
from runtime.picture import is_picture, png


def grey(kind: str, shape=(3, 2), levels=None) -> Support:
    return Support(shape=shape, element=Column(name="pixel", kind=kind, levels=levels, base_measure="counting"))


def read(data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert picture.info == {}, "metadata would make equal rows differ"
    return np.asarray(picture)


def test_a_binary_row_is_black_and_white_and_each_pixel_a_square():
    row = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(read(png(row, grey("binary"), scale=4)), np.kron(row, np.ones((4, 4))) * 255)


def test_the_largest_level_is_white():
    row = np.array([[0, 15], [5, 10], [1, 2]])
    np.testing.assert_array_equal(read(png(row, grey("ordinal", levels=16))), row * 17)


def test_the_last_axis_of_a_colour_picture_is_red_green_and_blue():
    row = np.random.default_rng(0).integers(0, 16, size=(3, 2, 3))
    support = grey("ordinal", shape=(3, 2, 3), levels=16)
    assert is_picture(support)
    shown = read(png(row, support, scale=2))
    np.testing.assert_array_equal(shown, np.kron(row * 17, np.ones((2, 2, 1))))
    assert shown[0, 0].tolist() == (row[0, 0] * 17).tolist()


def test_equal_rows_give_equal_bytes():
    row = np.eye(3, 2, dtype=np.uint8)
    assert png(row, grey("binary"), 8) == png(row.copy(), grey("binary"), 8)


def test_what_is_no_picture_is_refused():
    table = Support(shape=(1,), columns=(Column(name="a", kind="real", base_measure="lebesgue"),))
    assert not is_picture(table)
    assert not is_picture(grey("count"))
    assert not is_picture(grey("ordinal", shape=(3, 2, 2), levels=16))
    assert not is_picture(grey("ordinal", shape=(3,), levels=16))
    assert is_picture(grey("binary"))
    with pytest.raises(ValueError, match="not pictures"):
        png(np.zeros(1), table)
