"""Records and rows to arrays and back, for every kind of column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.errors import InputError
from contract.support import Column, Support

KINDS = ("real", "positive", "binary", "ordinal", "count", "categorical")
NON_FINITE = ("NaN", "Infinity", "-Infinity")

finite = st.floats(allow_nan=False, allow_infinity=False)
labels = st.text(min_size=1, max_size=6)


@st.composite
def columns(draw: st.DrawFn, name: str | None = None) -> Column:
    kind = draw(st.sampled_from(KINDS))
    categories = draw(st.lists(labels, min_size=2, max_size=4, unique=True)) if kind == "categorical" else None
    return Column(
        name=draw(labels) if name is None else name,
        kind=kind,
        base_measure="lebesgue" if kind in ("real", "positive") else "counting",
        levels=draw(st.integers(2, 300)) if kind == "ordinal" else None,
        categories=tuple(categories) if categories is not None else None,
        missing_allowed=draw(st.booleans()),
    )


@st.composite
def tables(draw: st.DrawFn) -> Support:
    names = draw(st.lists(labels, min_size=1, max_size=5, unique=True))
    return Support(shape=(len(names),), columns=tuple(draw(columns(name)) for name in names))


@st.composite
def pictures(draw: st.DrawFn) -> Support:
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    return Support(shape=tuple(shape), element=draw(columns()))


def allowed_values(column: Column) -> st.SearchStrategy[Any]:
    """What a record of such a column may hold, as ``array_to_records`` writes it."""
    values: st.SearchStrategy[Any] = {
        "real": finite,
        "positive": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "binary": st.integers(0, 1),
        "ordinal": st.integers(0, (column.levels or 1) - 1),
        "count": st.integers(0, 2**53),
        "categorical": st.sampled_from(column.categories or ("",)),
    }[column.kind]
    return values | st.none() if column.missing_allowed else values


def wrong_values(column: Column) -> st.SearchStrategy[Any]:
    """What it may not hold."""
    not_whole = finite.filter(lambda value: value != math.floor(value))
    categories = column.categories or ()
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "real": st.nothing(),
        "positive": st.floats(max_value=0, allow_infinity=False) | st.integers(-(10**40), 0),
        "binary": st.integers(min_value=2) | st.integers(max_value=-1) | not_whole,
        "ordinal": st.integers(min_value=column.levels or 0) | st.integers(max_value=-1) | not_whole,
        "count": st.integers(max_value=-1) | not_whole,
        "categorical": st.integers(min_value=len(categories)) | st.integers(max_value=-1) | not_whole,
    }
    anywhere = (
        st.sampled_from([math.inf, -math.inf, 10**400, -(10**400)])
        | st.sampled_from(["Infinity", "-Infinity"]).filter(lambda text: text not in categories)
        | st.text(max_size=50).filter(lambda text: text not in (*NON_FINITE, *categories))
        | st.lists(st.integers(0, 1), max_size=2)
        | st.dictionaries(labels, st.integers(0, 1), max_size=2)
    )
    missing = [None, math.nan, *(["NaN"] if "NaN" not in categories else [])]
    return kinds[column.kind] | anywhere | (st.nothing() if column.missing_allowed else st.sampled_from(missing))


def as_number(column: Column, value: Any) -> float:
    """The plain definition that the arrays are held to."""
    if value is None:
        return math.nan
    return float(column.categories.index(value)) if column.categories is not None else float(value)


@st.composite
def tables_with_records(draw: st.DrawFn) -> tuple[Support, list[dict[str, Any]]]:
    support = draw(tables())
    record = st.fixed_dictionaries({column.name: allowed_values(column) for column in support.columns or ()})
    return support, draw(st.lists(record, min_size=1, max_size=4))


@given(tables_with_records())
def test_records_round_trip(case: tuple[Support, list[dict[str, Any]]]) -> None:
    support, records = case
    array = support.records_to_array(records)
    assert array.dtype == support.dtype
    expected = [[as_number(column, record[column.name]) for column in support.columns or ()] for record in records]
    np.testing.assert_array_equal(array, np.array(expected))
    back = support.array_to_records(array)
    assert back == records
    for record in back:
        for column in support.columns or ():
            if column.kind in ("binary", "ordinal", "count") and record[column.name] is not None:
                assert type(record[column.name]) is int


@given(tables_with_records())
def test_rows_and_records_give_the_same_array(case: tuple[Support, list[dict[str, Any]]]) -> None:
    support, records = case
    array = support.records_to_array(records)
    names = [column.name for column in support.columns or ()]
    with_labels = [[record[name] for name in names] for record in records]
    with_nulls = [[None if math.isnan(value) else value for value in row] for row in array.tolist()]
    # A category may itself be called "NaN"; the label then wins.
    words = [None if "NaN" in (column.categories or ()) else "NaN" for column in support.columns or ()]
    with_words = [
        [word if math.isnan(value) else value for word, value in zip(words, row, strict=True)] for row in array.tolist()
    ]
    for rows in (with_labels, with_nulls, with_words, array.tolist()):
        np.testing.assert_array_equal(support.rows_to_array(rows), array)


@given(tables_with_records(), st.data())
def test_a_record_may_leave_out_what_may_be_missing(
    case: tuple[Support, list[dict[str, Any]]], data: st.DataObject
) -> None:
    support, records = case
    row = data.draw(st.integers(0, len(records) - 1))
    column = data.draw(st.sampled_from(support.columns or ()))
    del records[row][column.name]
    if column.missing_allowed:
        array = support.records_to_array(records)
        assert np.isnan(array[row, (support.columns or ()).index(column)])
    else:
        with pytest.raises(InputError) as caught:
            support.records_to_array(records)
        assert (caught.value.row, caught.value.column) == (row, column.name)
        assert caught.value.expected == column.expected


@given(tables_with_records(), st.data())
def test_a_wrong_value_is_named_by_row_and_column(
    case: tuple[Support, list[dict[str, Any]]], data: st.DataObject
) -> None:
    support, records = case
    row = data.draw(st.integers(0, len(records) - 1))
    column = data.draw(st.sampled_from(support.columns or ()))
    records[row][column.name] = data.draw(wrong_values(column))
    rows = [[record[name.name] for name in support.columns or ()] for record in records]
    for read, given_rows in ((support.records_to_array, records), (support.rows_to_array, rows)):
        with pytest.raises(InputError) as caught:
            read(given_rows)  # type: ignore[operator]
        error = caught.value
        assert (error.row, error.column) == (row, column.name)
        assert error.expected
        assert error.got
        assert f"row {row}" in str(error)


@given(tables_with_records(), labels)
def test_an_unknown_column_is_named(case: tuple[Support, list[dict[str, Any]]], name: str) -> None:
    support, records = case
    assume(name not in records[-1])
    records[-1][name] = 0
    with pytest.raises(InputError) as caught:
        support.records_to_array(records)
    assert (caught.value.row, caught.value.column) == (len(records) - 1, name)


@st.composite
def arrays_for(draw: st.DrawFn, support: Support) -> np.ndarray[Any, Any]:
    n = draw(st.integers(1, 4))
    flat = [
        [as_number(support.column_at(i), draw(allowed_values(support.column_at(i)))) for i in range(support.size)]
        for _ in range(n)
    ]
    return np.array(flat).reshape(n, *support.shape)


@given(st.data())
def test_rows_may_be_nested_or_flat(data: st.DataObject) -> None:
    support = data.draw(tables() | pictures())
    array = data.draw(arrays_for(support))
    checked = support.check(array)
    assert checked.dtype == support.dtype
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, array)
    nested, flat = array.tolist(), array.reshape(len(array), -1).tolist()
    mixed = [nested[0], *flat[1:]]
    for rows in (nested, flat, mixed, tuple(map(tuple, flat))):
        np.testing.assert_array_equal(support.rows_to_array(rows), checked)


@given(st.data())
def test_the_fast_and_the_explicit_way_agree(data: st.DataObject) -> None:
    # Lists of plain numbers go through numpy at once; the explicit way, which reads value by value, is their meaning.
    support = data.draw(tables() | pictures())
    values = st.lists(
        st.integers(-1, 3) | st.booleans() | st.floats(-1, 3) | st.sampled_from([math.nan, math.inf, 2**63, -(2**63)]),
        min_size=support.size,
        max_size=support.size,
    )
    rows = data.draw(st.lists(values, min_size=1, max_size=3))

    def outcome(read: Any) -> Any:
        try:
            return read().tolist()
        except InputError as error:
            return error.row, error.column, error.expected

    fast = outcome(lambda: support.rows_to_array(rows))
    explicit = outcome(lambda: support.check(support._row_by_row(rows)))
    np.testing.assert_equal(fast, explicit)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(tables() | pictures(), st.lists(json_values, max_size=3))
def test_any_json_is_either_rows_or_refused_in_words(support: Support, rows: list[Any]) -> None:
    try:
        array = support.rows_to_array(rows)
    except InputError:
        return
    assert array.shape == (len(rows), *support.shape)
    np.testing.assert_array_equal(support.check(array), array)


@given(tables(), st.lists(json_values, max_size=3))
def test_any_json_is_either_records_or_refused_in_words(support: Support, records: list[Any]) -> None:
    try:
        array = support.records_to_array(records)
    except InputError:
        return
    np.testing.assert_array_equal(support.records_to_array(support.array_to_records(array)), array)


def grey(height: int = 2, width: int = 3) -> Support:
    return Support(
        shape=(height, width), element=Column(name="pixel", kind="ordinal", base_measure="counting", levels=256)
    )


def test_a_pixel_is_named_by_its_place() -> None:
    rows = np.zeros((2, 2, 3))
    rows[1, 0, 2] = 256
    with pytest.raises(InputError) as caught:
        grey().check(rows)
    assert str(caught.value) == "row 1, column '[0][2]': expected a whole number from 0 to 255, got 256.0"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2, 3]], "row 0: expected 2 lists (shape [2, 3]), got 3"),
        ([[[1, 2, 3], [1, 2]]], "row 0: expected 3 values (shape [2, 3]), got 2"),
        ([[0] * 6, [1, [2, 3]]], "row 1: expected nested lists of shape [2, 3], got 1"),
        (["a picture"], "row 0: expected a list of shape [2, 3], got the string 'a picture'"),
        ([[0] * 6, {"pixel": 1}], "row 1: expected a list of shape [2, 3], got an object"),
        ([[0, 0, 0, 0, 0, "x"]], "row 0, column '[1][2]': expected a whole number from 0 to 255, got the string 'x'"),
        ([[0, 0, 0, 0, None, 0]], "row 0, column '[1][1]': expected a whole number from 0 to 255, got null"),
    ],
)
def test_a_refusal_names_the_row_and_what_was_expected(rows: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        grey().rows_to_array(rows)
    assert str(caught.value) == message


def test_an_integer_too_long_to_print_is_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"row 0, column '\[1\]\[2\]': .*, got an integer of 16610 bits"):
        grey().rows_to_array([[0, 0, 0, 0, 0, 10**5000]])


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected rows of shape \[2, 3\], got an array of shape \[4, 3, 2\]"):
        grey().check(np.zeros((4, 3, 2)))


def test_no_rows_are_an_empty_array() -> None:
    assert grey().rows_to_array([]).shape == (0, 2, 3)


def test_a_picture_has_no_records() -> None:
    with pytest.raises(InputError, match="no names"):
        grey().records_to_array([{"pixel": 1}])
    with pytest.raises(InputError, match="named columns"):
        grey().array_to_records(np.zeros((1, 2, 3)))


def test_small_discrete_pictures_are_bytes_and_the_rest_doubles() -> None:
    assert grey().dtype == "uint8"
    assert Support(shape=(2,), element=Column(name="b", kind="binary", base_measure="counting")).dtype == "uint8"
    for element in (
        Column(name="p", kind="ordinal", base_measure="counting", levels=257),
        Column(name="p", kind="ordinal", base_measure="counting", levels=2, missing_allowed=True),
        Column(name="p", kind="count", base_measure="counting"),
        Column(name="p", kind="real", base_measure="lebesgue"),
    ):
        assert Support(shape=(2,), element=element).dtype == "float64"


def test_only_a_support_without_densities_is_discrete() -> None:
    real = Column(name="r", kind="real", base_measure="lebesgue")
    count = Column(name="c", kind="count", base_measure="counting")
    assert Support(shape=(1,), columns=(count,)).discrete
    assert not Support(shape=(2,), columns=(count, real)).discrete
    assert grey().discrete


@pytest.mark.parametrize(
    "column",
    [
        {"kind": "real", "base_measure": "counting"},
        {"kind": "binary", "base_measure": "lebesgue"},
        {"kind": "ordinal", "base_measure": "counting"},
        {"kind": "count", "base_measure": "counting", "levels": 3},
        {"kind": "categorical", "base_measure": "counting"},
        {"kind": "categorical", "base_measure": "counting", "categories": ["a"]},
        {"kind": "categorical", "base_measure": "counting", "categories": ["a", "a"]},
        {"kind": "real", "base_measure": "lebesgue", "categories": ["a", "b"]},
        {"kind": "real", "base_measure": "lebesgue", "resolution": 0},
    ],
)
def test_an_incoherent_column_is_refused(column: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Column.model_validate({"name": "c", **column})


def test_an_incoherent_support_is_refused() -> None:
    column = Column(name="c", kind="real", base_measure="lebesgue")
    with pytest.raises(ValidationError, match="does not fit"):
        Support(shape=(2,), columns=(column,))
    with pytest.raises(ValidationError, match="same name"):
        Support(shape=(2,), columns=(column, column))
    with pytest.raises(ValidationError, match="either columns or an element"):
        Support(shape=(1,))
    with pytest.raises(ValidationError, match="either columns or an element"):
        Support(shape=(1,), columns=(column,), element=column)


def test_a_long_list_of_categories_is_cut_short() -> None:
    column = Column(name="c", kind="categorical", base_measure="counting", categories=tuple(map(str, range(13))))
    assert column.expected.startswith("one of its 13 categories: '0', '1', ")
    assert column.expected.endswith("'11', …")
    shorter = column.model_copy(update={"categories": ("a", "b")})
    assert shorter.expected == "one of 'a', 'b'"


def test_in_a_record_a_number_is_a_label_and_in_a_row_an_index() -> None:
    column = Column(name="c", kind="categorical", base_measure="counting", categories=("1", "2", "2.5", "x"))
    support = Support(shape=(1,), columns=(column,))
    records = [{"c": value} for value in (1, "1", 2.0, 2.5, "x")]
    assert support.records_to_array(records)[:, 0].tolist() == [0, 0, 1, 2, 3]
    assert support.rows_to_array([[1], [2.0]])[:, 0].tolist() == [1, 2]
    assert support.records_to_array([{"c": 3}])[:, 0].tolist() == [3]
