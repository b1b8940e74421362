"""CSV and Parquet: what is written comes back, what a column is, and errors that say where."""

from __future__ import annotations

import csv
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import Dataset, load_data
from training.errors import DataError, RecipeError
from training.recipe import parse_recipe

HEADER = "{name: a, title: t, description: d, licence: l, family: f, data: {loader: "


def load(folder: Path, rest: str) -> Dataset:
    """The data of a recipe: its data section from the loader on, then what follows that section."""
    return load_data(parse_recipe(HEADER + rest + "}"), folder)


def kinds(data: Dataset) -> dict[str, str]:
    return {column.name: column.kind for column in data.support.columns or ()}


CARS = """name,weight,doors,electric,colour,price,built,owner note,wheels
a1,1200.5,3,true,red,9000,2020-01-31,one owner,4
b2,1310.0,5,false,,12500,2019-11-02,was in a flood,4
c3,,4,true,blue,31000,2021-06-11,like new,4
d4,980.25,3,NA,red,7000,2018-03-05,rust,4
e5,1500.75,2,false,green,1250000,2021-06-12,"no, really",4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cars.csv").write_text(CARS)
    return tmp_path


# -- what is written comes back ------------------------------------------------------------------------------------

words = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=("Cs", "Cc")),
    min_size=1,
    max_size=8,
).map(lambda word: f"w{word}w")
finite = st.floats(-1e300, 1e300, allow_nan=False).map(lambda value: value + 0.0)


@st.composite
def made_tables(draw: st.DrawFn) -> tuple[dict[str, str], list[list[Any]]]:
    """Kinds by column name, and rows of values, None where one is missing; no column is constant."""
    n = draw(st.integers(2, 12))
    elements: dict[str, st.SearchStrategy[Any]] = {
        "real": finite,
        "positive": st.floats(1e-300, 1e300, allow_nan=False),
        "binary": st.integers(0, 1),
        "ordinal": st.integers(0, 300),
        "count": st.integers(0, 2**53),
        "categorical": words,
    }
    names = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    chosen = {name: draw(st.sampled_from(sorted(elements))) for name in names}
    columns = []
    for kind in chosen.values():
        two = draw(st.lists(elements[kind], min_size=2, max_size=2, unique=True))
        rest = draw(st.lists(st.none() | elements[kind], min_size=n - 2, max_size=n - 2))
        columns.append(two + rest)
    return chosen, [list(row) for row in zip(*columns, strict=True)]


def expected_of(chosen: dict[str, str], rows: list[list[Any]], data: Dataset) -> np.ndarray[Any, Any]:
    expected = np.full((len(rows), len(chosen)), np.nan)
    for j, column in enumerate(data.support.columns or ()):
        for i, row in enumerate(rows):
            if row[j] is not None:
                expected[i, j] = column.categories.index(row[j]) if column.categories else row[j]
    return expected


@given(made_tables(), st.sampled_from([",", ";", "\t", "|"]), st.booleans())
def test_a_csv_file_gives_the_table_that_was_written(
    made: tuple[dict[str, str], list[list[Any]]], delimiter: str, zipped: bool
) -> None:
    chosen, rows = made
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / ("table.csv.gz" if zipped else "table.csv")
        with gzip.open(path, "wt", newline="") if zipped else path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(chosen)
            writer.writerows([["" if value is None else value for value in row] for row in rows])
        recipe = parse_recipe(HEADER + "csv, file: x, description: d}}")
        spec = {"file": path.name, "delimiter": delimiter, "columns": {k: {"kind": v} for k, v in chosen.items()}}
        recipe = recipe.model_copy(update={"data": type(recipe.data)(loader="csv", description="d", **spec)})
        data = load_data(recipe, Path(place))
    assert kinds(data) == chosen
    assert np.array_equal(data.rows, expected_of(chosen, rows, data), equal_nan=True)
    for j, column in enumerate(data.support.columns or ()):
        assert column.missing_allowed == any(row[j] is None for row in rows)
    records = data.support.array_to_records(data.rows)
    assert np.array_equal(data.support.records_to_array(records), data.rows, equal_nan=True)


@given(made_tables())
def test_a_parquet_file_gives_the_table_that_was_written(made: tuple[dict[str, str], list[list[Any]]]) -> None:
    chosen, rows = made
    with tempfile.TemporaryDirectory() as place:
        columns = {name: [row[j] for row in rows] for j, name in enumerate(chosen)}
        pyarrow.parquet.write_table(pyarrow.table(columns), Path(place) / "t.parquet")
        recipe = parse_recipe(HEADER + "parquet, file: t.parquet, description: d}}")
        given_data = type(recipe.data)(
            loader="parquet", file="t.parquet", description="d", columns={k: {"kind": v} for k, v in chosen.items()}
        )
        data = load_data(recipe.model_copy(update={"data": given_data}), Path(place))
    assert kinds(data) == chosen
    assert np.array_equal(data.rows, expected_of(chosen, rows, data), equal_nan=True)


def test_parquet_says_more_of_its_columns_than_csv(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "truth": pyarrow.array([True, None, False]),
            "when": pyarrow.array([1, 2, 3], type=pyarrow.timestamp("s")),
            "word": pyarrow.array(["b", "a", "b"]).dictionary_encode(),
            "small": pyarrow.array([1.5, 2.5, None], type=pyarrow.float32()),
            "empty": pyarrow.nulls(3),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    data = load(tmp_path, "parquet, file: t.parquet, description: d}")
    assert kinds(data) == {"truth": "binary", "word": "categorical", "small": "real"}
    assert np.array_equal(data.rows, [[1, 1, 1.5], [np.nan, 0, 2.5], [0, 1, np.nan]], equal_nan=True)
    assert data.left_out["when"].startswith("left out: dates")
    assert data.left_out["empty"] == "left out: no row has a value"
    pyarrow.parquet.write_table(pyarrow.table({"list": [[1], [2]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'list': expected numbers, words, booleans or dates, got list"):
        load(tmp_path, "parquet, file: t.parquet, description: d}")


# -- what a column is ----------------------------------------------------------------------------------------------


def test_columns_that_no_recipe_names_are_inspected(folder: Path) -> None:
    data = load(folder, "csv, file: cars.csv, drop: [name, owner note], description: d}")
    assert kinds(data) == {
        "weight": "real",
        "doors": "ordinal",
        "electric": "binary",
        "colour": "categorical",
        "price": "count",
    }
    weight, _, electric, colour, _ = data.support.columns or ()
    assert weight.resolution == 0.01
    assert electric.missing_allowed
    assert colour.categories == ("blue", "green", "red")
    assert data.left_out.keys() == {"built", "wheels"}
    assert data.left_out["wheels"] == "left out: the same in every row, '4'"
    assert np.array_equal(data.rows[1], [1310.0, 5, 0, np.nan, 12500], equal_nan=True)
    assert np.isnan(data.rows[2, 0])


def test_a_recipe_may_say_more_than_the_values_do(folder: Path) -> None:
    columns = (
        "{doors: categorical, price: {kind: positive, resolution: 500}, weight: {kind: real, missing_allowed: true}, "
        "colour: {kind: categorical, categories: [red, green, blue, black]}}"
    )
    data = load(folder, f"csv, file: cars.csv, drop: [name, owner note, built], columns: {columns}, description: d}}")
    weight, doors, _, colour, price = data.support.columns or ()
    assert doors.categories == ("2", "3", "4", "5")
    assert colour.categories == ("red", "green", "blue", "black")
    assert (price.kind, price.resolution) == ("positive", 500)
    assert weight.missing_allowed
    assert data.rows[0].tolist() == [1200.5, 1, 1, 0, 9000]


def test_the_label_column_is_no_column_of_the_rows(folder: Path) -> None:
    rest = "csv, file: cars.csv, label: doors, drop: [name], description: d}, "
    data = load(folder, rest + "ordinary: 3")
    assert "doors" not in kinds(data)
    assert len(data.rows) == 2
    assert sorted(data.anomalies) == ["2", "4", "5"]
    assert data.left_out["colour"] == "left out: the same in every ordinary row, 'red'"
    conditional = load(folder, rest + "condition: label")
    assert conditional.label_names == ("2", "3", "4", "5")
    assert conditional.fold.labels is not None
    assert conditional.fold.labels.tolist() == [1, 3, 2, 1, 0]
    with pytest.raises(DataError, match="no label '9'; they have 2, 3, 4, 5"):
        load(folder, rest + "ordinary: 9")


def test_an_official_test_file_has_the_columns_of_the_first(folder: Path) -> None:
    rest = "csv, file: cars.csv, test: test.csv, drop: [name, built, owner note], description: d}"
    # Other columns, in another order; doors goes up to 5 in the first file.
    (folder / "test.csv").write_text("price,colour,electric,more,doors,weight\n1,blue,true,x,0,1\n2,,,y,1,\n")
    data = load(folder, rest)
    assert data.test is not None
    assert np.array_equal(data.test, [[1, 0, 1, 0, 1], [np.nan, 1, np.nan, np.nan, 2]], equal_nan=True)
    (folder / "test.csv").write_text("price,colour,electric,doors,weight\n1,blue,true,3,1\n2,pink,true,3,1\n")
    with pytest.raises(DataError, match=r"test.csv: line 3, column 'colour': expected one of 'blue', 'green', 'red'"):
        load(folder, rest)
    (folder / "test.csv").write_text("price,colour,electric,doors\n1,blue,true,3\n")
    with pytest.raises(DataError, match=r"test.csv: columns: no column 'weight'; there are 'price', 'colour'"):
        load(folder, rest)


def test_other_decimals_delimiters_encodings_and_holes(tmp_path: Path) -> None:
    text = 'größe;farbe;rest\n1,5;"weiß; matt";1\n-999;rot;2,25\n2;rot;3\n'
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    rest = "csv, file: t.csv, delimiter: ;, decimal: ',', missing: ['-999'], encoding: latin-1, description: d}"
    data = load(tmp_path, rest.replace("delimiter: ;", "delimiter: ';'"))
    assert kinds(data) == {"größe": "real", "farbe": "categorical", "rest": "real"}
    assert np.array_equal(data.rows, [[1.5, 1, 1], [np.nan, 0, 2.25], [2, 0, 3]], equal_nan=True)
    with pytest.raises(DataError, match="it is not utf-8; name its encoding"):
        load(tmp_path, "csv, file: t.csv, delimiter: ';', description: d}")


def test_a_byte_order_mark_and_empty_lines_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\n\n1.5,2\n\n2.5,x\n")
    assert kinds(load(tmp_path, "csv, file: t.csv, description: d, drop: [b]}")) == {"a": "real"}
    with pytest.raises(DataError, match=r"t.csv: line 5, column 'b': expected a finite number, got 'x'"):
        load(tmp_path, "csv, file: t.csv, description: d, columns: {b: real}}")


def test_missing_values_in_their_usual_spellings(tmp_path: Path) -> None:
    spelt = ["", " ", "NA", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "#N/A"]
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{word},1\n" for word in spelt) + "1.5,0\n2.5,0\n")
    data = load(tmp_path, "csv, file: t.csv, description: d}")
    assert np.isnan(data.rows[:, 0]).sum() == len(spelt)


# -- errors say where ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "{weight: count}",
            r"line 2, column 'weight': expected a whole number of 0 or more, or an empty cell, got",
        ),
        (
            "{weight: {kind: real, missing_allowed: false}}",
            r"line 4, column 'weight': expected a finite number, got",
        ),
        ("{colour: real}", r"line 2, column 'colour': expected a finite number, or an empty cell, got 'red'"),
        ("{colour: ordinal}", r"line 2, column 'colour': expected a whole number of 0 or more.* got 'red'"),
        ("{doors: binary}", r"line 2, column 'doors': expected 0 or 1, got '3'"),
        (
            "{doors: {kind: ordinal, levels: 5}}",
            r"line 3, column 'doors': expected a whole number from 0 to 4, got",
        ),
        (
            "{colour: {kind: categorical, categories: [red, blue]}}",
            r"line 6, column 'colour': expected one of 'red', 'blue', or an empty cell, got 'green'",
        ),
        ("{price: ordinal}", r"line 6, column 'price': expected a level from 0 to 65535, got 1250000"),
        ("{size: real}", r"columns: no column 'size'; there are 'name', 'weight'"),
    ],
)
def test_a_value_that_is_not_what_the_recipe_says(folder: Path, columns: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"cars.csv: {message}") as error:
        load(folder, f"csv, file: cars.csv, columns: {columns}, description: d}}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n3,4,5\n", "line 4: expected 2 values, as in the header, got 3"),
        ('a,b\n"1\n1",2\n3\n', "line 4: expected 2 values, as in the header, got 1"),
        ("", "an empty file"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        ("a,b\n1,2\n1,2\n", "no column is left: 'a' left out: the same in every row"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=rf"t.csv: {message}") as error:
        load(tmp_path, "csv, file: t.csv, description: d}")
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; name the data folder with --data or NONESUCH_DATA"):
        load(tmp_path, "csv, file: t.csv, description: d}")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 or so")
    with pytest.raises(DataError, match=r"t.parquet: cannot be read"):
        load(tmp_path, "parquet, file: t.parquet, description: d}")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])
    with pytest.raises(DataError, match=r"t.csv.gz: cannot be read"):
        load(tmp_path, "csv, file: t.csv.gz, description: d}")


def test_a_row_without_a_label(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,kind\n1,x\n2,\n")
    with pytest.raises(DataError, match=r"t.csv: line 3, column 'kind': expected a label, got no value"):
        load(tmp_path, "csv, file: t.csv, label: kind, description: d}, condition: label")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("columns: {a: complex}", "data.csv.columns.a.kind: Input should be 'real'"),
        ("columns: {no: real}", "YAML reads a column's name as False; put the name in quotes"),
        ("columns: {a: {kind: real, levels: 3}}", "levels belong to ordinal columns"),
        ("columns: {a: {kind: count, resolution: 3}}", "a resolution belongs to real and positive columns"),
        ("columns: {a: {kind: categorical, categories: [b]}}", "categories: at least two"),
        ("columns: {a: {kind: categorical, categories: [b, b]}}", "categories: 'b' is there twice"),
        ("columns: {a: real}, drop: [a]", "column 'a' is both among columns and among drop"),
        ("columns: {a: real}, label: a", "column 'a' is the label, and so neither among"),
        ("decimal: ','", "the delimiter cannot be the decimal sign too"),
    ],
)
def test_what_a_data_section_cannot_say(section: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(HEADER + f"csv, file: t.csv, description: d, {section}}}}}")
