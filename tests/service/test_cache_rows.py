"""Keys, records and tags: what the cache's promises rest on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.cache_rows import KEY_BYTES, TAG_BYTES, Records, Seal, row_keys

DTYPES = st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)
QUESTION = {"program_digest": "d" * 64, "profile": "ort-1/cpu", "operation": "log_prob"}


@st.composite
def outputs(draw):
    """A layout and arrays that fit it."""
    n = draw(st.integers(1, 5))
    layout, arrays = {}, {}
    for name in draw(st.lists(st.sampled_from("abcxyz"), min_size=1, max_size=3, unique=True)):
        dtype, shape = draw(DTYPES), draw(SHAPES)
        layout[name] = (dtype, shape)
        arrays[name] = draw(hnp.arrays(dtype, (n, *shape)))
    return n, layout, arrays


@given(outputs())
def test_records_give_back_every_bit(case):
    n, layout, arrays = case
    records = Records(layout)
    values = records.split(records.pack(arrays, n))
    assert [len(value) for value in values] == [records.size] * n
    back = records.unpack(records.join(values))
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].flags.c_contiguous
        assert back[name].tobytes() == array.tobytes()  # NaN payloads and negative zeros too


def test_records_read_either_byte_order():
    records = Records({"x": (np.float64, (2,))})
    array = np.array([[1.0, -2.5]])
    assert records.split(records.pack({"x": array.astype(">f8")}, 1)) == [array.astype("<f8").tobytes()]


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"x": np.zeros((3, 2), np.float32)},
        {"x": np.zeros((3, 3))},
        {"x": np.zeros((1, 2))},
        {"x": np.zeros((2, 2))},
    ],
    ids=["absent", "dtype", "shape", "would broadcast", "too few"],
)
def test_records_refuse_what_does_not_fit(arrays):
    with pytest.raises(ValueError, match="'x'"):
        Records({"x": (np.float64, (2,))}).pack(arrays, 3)


def test_records_refuse_objects():
    with pytest.raises(TypeError):
        Records({"x": (object, ())})


@given(hnp.arrays(np.float64, (4, 3)), st.integers(0, 3))
def test_a_key_ignores_the_neighbours(x, i):
    together = row_keys(**QUESTION, inputs={"x": x})
    alone = row_keys(**QUESTION, inputs={"x": x[i : i + 1]})
    assert together[i] == alone[0]
    assert len(alone[0]) == KEY_BYTES


@given(hnp.arrays(np.int64, 3, unique=True))
def test_different_rows_have_different_keys(seed):
    row = np.arange(3)
    keys = row_keys(**QUESTION, inputs={"seed": seed, "row": row})
    assert len(set(keys)) == 3
    assert keys == row_keys(**QUESTION, inputs={"row": row, "seed": seed})


def test_everything_that_an_answer_depends_on_changes_the_key():
    x = np.array([[1.0, 2.0]])
    integers = x.view(np.int64)
    asked = [
        {"inputs": {"x": x}},
        {"inputs": {"x": x}, "program_digest": "e" * 64},
        {"inputs": {"x": x}, "profile": "ort-2/cpu"},
        {"inputs": {"x": x}, "operation": "encode"},
        {"inputs": {"x": x}, "parameters": {"steps": 10}},
        {"inputs": {"x": x}, "parameters": {"steps": 11}},
        {"inputs": {"x": x}, "parameters": {"steps": "10"}},
        {"inputs": {"z": x}},
        {"inputs": {"x": integers}},
        {"inputs": {"x": x.reshape(1, 1, 2)}},
        {"inputs": {"x": x[:, ::-1]}},
        {"inputs": {"x": x, "temperature": np.array([1.0])}},
        {"inputs": {"x": np.array([[1.0, 2.0, 1.0]])}},
        # The same letters cut at another place.
        {"inputs": {"x": x}, "program_digest": "d" * 63, "profile": "dort-1/cpu"},
        {"inputs": {"x": x}, "profile": "ort-1/cpul", "operation": "og_prob"},
    ]
    keys = [row_keys(**{**QUESTION, **question})[0] for question in asked]
    assert len(set(keys)) == len(asked)


def test_the_order_of_parameters_and_inputs_does_not_matter():
    x, t = np.ones((2, 3)), np.ones(2)
    a = row_keys(**QUESTION, inputs={"x": x, "t": t}, parameters={"a": 1, "b": 2.5})
    b = row_keys(**QUESTION, inputs={"t": t, "x": x}, parameters={"b": 2.5, "a": 1})
    assert a == b


def test_strided_and_big_endian_rows_have_the_keys_of_plain_ones():
    x = np.arange(12.0).reshape(4, 3)
    plain = row_keys(**QUESTION, inputs={"x": x})
    assert row_keys(**QUESTION, inputs={"x": np.asfortranarray(x)}) == plain
    assert row_keys(**QUESTION, inputs={"x": x.astype(">f8")}) == plain


@pytest.mark.parametrize("inputs", [{}, {"x": np.zeros(2), "y": np.zeros(3)}], ids=["none", "lengths"])
def test_keys_need_rows(inputs):
    with pytest.raises(ValueError, match="common length"):
        row_keys(**QUESTION, inputs=inputs)


RECORDS = Records({"x": (np.float64, (2,))})


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=5), st.binary(max_size=80))
def test_a_seal_opens_what_it_closed(values, secret):
    keys = [bytes([i]) * 32 for i in range(len(values))]
    seal = Seal(secret)
    assert Seal(secret).open(RECORDS, keys, seal.close(RECORDS, keys, values)) == (values, 0)


@settings(max_examples=50)
@given(st.integers(0, (TAG_BYTES + 16) * 8 - 1), st.sampled_from([b"", b"secret"]))
def test_one_changed_bit_breaks_the_seal(bit, secret):
    seal, key = Seal(secret), b"k" * 32
    (sealed,) = seal.close(RECORDS, [key], [b"0123456789abcdef"])
    spoilt = bytearray(sealed)
    spoilt[bit // 8] ^= 1 << bit % 8
    assert seal.open(RECORDS, [key], [bytes(spoilt)]) == ([None], 1)


def test_a_seal_holds_for_one_key_one_layout_and_one_secret():
    key, value = b"k" * 32, b"0123456789abcdef"
    (sealed,) = Seal(b"secret").close(RECORDS, [key], [value])
    others = [
        (Seal(b"secret"), RECORDS, b"l" * 32),
        (Seal(b"secret"), Records({"y": (np.float64, (2,))}), key),
        (Seal(b"secret"), Records({"x": (np.int64, (2,))}), key),
        (Seal(b"secret"), Records({"x": (np.float64, (1, 2))}), key),
        (Seal(b"another"), RECORDS, key),
        (Seal(), RECORDS, key),
    ]
    assert Seal(b"secret").open(RECORDS, [key], [sealed]) == ([value], 0)
    for seal, records, other_key in others:
        assert seal.open(records, [other_key], [sealed]) == ([None], 1)


@pytest.mark.parametrize("given", [7, "text", b"", b"short", [b"list"], b"x" * 100])
def test_a_seal_takes_anything_and_opens_nothing_foreign(given):
    assert Seal().open(RECORDS, [b"k" * 32], [given]) == ([None], 1)


def test_what_is_not_there_is_not_wrong():
    assert Seal().open(RECORDS, [b"k" * 32], [None]) == ([None], 0)
