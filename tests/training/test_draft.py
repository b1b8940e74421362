"""A recipe by inspection: what it says, where it is written, and that it trains."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from commands.main import main
from contract.bundle import open_bundle
from contract.support import Column, Support
from tests.training.runs import one_thread
from training.data import load_data
from training.draft import budget, choose_family, draft_recipe, findings_table
from training.drafts import Draft, write_draft
from training.errors import TrainingInputError
from training.recipe import Recipe, parse_recipe
from training.sections import CsvData

RNG = np.random.default_rng(0)


def people(
    folder: Path, n: int = 300, name: str = "our people (2).csv", delimiter: str = ",", decimal: str = "."
) -> Path:
    """A table as people have it: mixed columns with holes, among them some that no law should be fitted to."""
    path = folder / "our people (2).csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["", "id", "age", "income", "city", "when", "flag", "ill"])
        for i in range(n):
            income = "" if i % 7 == 0 else f"{RNG.lognormal(10, 1):.2f}".replace(".", decimal)
            city = RNG.choice(["Bern", "Oslo", "Rome"])
            writer.writerow(
                [
                    i,
                    1000 + i,
                    RNG.integers(18, 90),
                    income,
                    city,
                    f"2020-01-{i % 28 + 1:02}",
                    1,
                    ["no", "yes"][i % 5 == 0],
                ]
            )
    return path


def measurements(folder: Path, n: int = 420) -> Path:
    """A table of continuous columns without holes."""
    path = folder / "bolts.csv"
    length = RNG.normal(50.0, 4.0, n)
    width = 0.1 * length + RNG.normal(2.0, 0.3, n)
    rows = "".join(f"{a:.4f},{b:.4f}\n" for a, b in zip(length, width, strict=True))
    path.write_text("length,width\n" + rows)
    return path


def drafted(path: Path, **options: object) -> tuple[Draft, Recipe]:
    draft = draft_recipe(path, data_root=Path("data"), **options)  # type: ignore[arg-type]
    return draft, parse_recipe(draft.text)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended, one_thread():
        main(["train", *map(str, arguments)])
    return ended.value.code if isinstance(ended.value.code, int) else 0


# -- what it says --------------------------------------------------------------------------------------------------


def test_a_draft_names_every_column_that_it_keeps_and_says_why_it_keeps_no_other(tmp_path: Path) -> None:
    draft, recipe = drafted(people(tmp_path))
    assert isinstance(recipe.data, CsvData)
    kinds = {name: spec.kind for name, spec in recipe.data.columns.items()}
    assert kinds == {"age": "count", "income": "positive", "city": "categorical", "ill": "categorical"}
    assert (recipe.name, recipe.family) == ("our-people-2", "tabular-made")
    assert recipe.anomaly is not None
    for words in ("#   id: it numbers the rows", "#   when: dates", "#   flag: the same in every row, '1'"):
        assert words in draft.text
    data = load_data(recipe, tmp_path)
    assert data.rows.shape == (300, 4)
    assert data.left_out.keys() == {"id", "when", "flag"}
    assert np.isnan(data.rows[:, 1]).sum() == 43


def test_a_draft_of_labelled_rows_models_the_ordinary_ones(tmp_path: Path) -> None:
    _, recipe = drafted(people(tmp_path), label="ill", ordinary="no", drop=["city"], name="well")
    assert (recipe.name, recipe.ordinary) == ("well", "no")
    assert "240 rows of our people (2).csv whose ill is no" in recipe.description
    data = load_data(recipe, tmp_path)
    assert [column.name for column in data.support.columns or ()] == ["age", "income"]
    assert (len(data.rows), len(data.anomalies["yes"])) == (240, 60)


@pytest.mark.parametrize(("delimiter", "decimal"), [(";", ","), (";", "."), ("\t", "."), ("|", ",")])
def test_delimiter_and_decimal_sign_are_found(tmp_path: Path, delimiter: str, decimal: str) -> None:
    path = people(tmp_path, delimiter=delimiter, decimal=decimal)
    _, recipe = drafted(path)
    assert isinstance(recipe.data, CsvData)
    assert (recipe.data.delimiter, recipe.data.decimal) == (delimiter, decimal)
    assert recipe.data.columns["income"].kind == "positive"


def test_an_old_encoding_is_found(tmp_path: Path) -> None:
    path = tmp_path / "alt.csv"
    path.write_bytes(("größe,ort\n" + "1.5,Köln\n2.5,Ürzig\n" * 40).encode("cp1252"))
    _, recipe = drafted(path)
    data = load_data(recipe, tmp_path)
    assert [column.name for column in data.support.columns or ()] == ["größe", "ort"]
    assert (data.support.columns or ())[1].categories == ("Köln", "Ürzig")


def test_a_parquet_file_is_drafted_as_well(tmp_path: Path) -> None:
    table = pyarrow.table({"x": RNG.normal(size=100), "yes": RNG.integers(0, 2, 100).astype(bool)})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    _, recipe = drafted(tmp_path / "t.parquet")
    assert recipe.data.loader == "parquet"
    assert load_data(recipe, tmp_path).rows.shape == (100, 2)


def test_the_family_follows_from_the_columns() -> None:
    def family(rows: np.ndarray, **changes: object) -> str:
        columns = [Column(name=str(i), kind="real", base_measure="lebesgue") for i in range(rows.shape[1])]
        columns[-1] = Column(**{**columns[-1].model_dump(), **changes})  # type: ignore[arg-type]
        return choose_family(Support(shape=(len(columns),), columns=tuple(columns)), rows)[0]

    rows = RNG.normal(size=(100, 3))
    assert family(rows) == "realnvp"
    assert family(rows, missing_allowed=True) == "tabular-made"
    assert family(rows, kind="count", base_measure="counting") == "tabular-made"
    assert family(rows, resolution=0.5) == "tabular-made"
    assert family(rows, resolution=0.05) == "realnvp"
    assert family(rows[:, :1]) == "tabular-made"


@pytest.mark.parametrize(("n", "d"), [(60, 2), (500, 200), (5_000, 20), (200_000, 10), (5_000_000, 100)])
def test_the_budget_is_of_a_few_thousand_steps_whatever_the_table(n: int, d: int) -> None:
    plan = budget(n, d)
    epochs, batch = plan["max_epochs"], plan["batch_size"]
    assert 5 <= epochs <= 200
    assert epochs * n / batch <= max(9000, 5 * n / 512)


# -- where it is written -------------------------------------------------------------------------------------------


def test_no_other_recipe_is_written_over(tmp_path: Path) -> None:
    draft, _ = drafted(people(tmp_path))
    first, remark = write_draft(draft, tmp_path)
    assert (first.name, remark) == ("our-people-2.yaml", None)
    assert write_draft(draft, tmp_path) == (first, None), "the same recipe is not written twice"
    first.write_text("name: edited by hand")
    second, remark = write_draft(draft, tmp_path)
    assert second.name == "our-people-2-2.yaml"
    assert remark is not None
    assert "our-people-2.yaml is another recipe" in remark
    assert first.read_text() == "name: edited by hand"
    assert write_draft(draft, tmp_path)[0] == second


def test_the_table_of_findings_can_be_read(tmp_path: Path) -> None:
    draft, _ = drafted(people(tmp_path))
    table = findings_table(draft)
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["column"] == ["id", "age", "income", "city", "when", "flag", "ill"]
    assert cells["kind"] == ["–", "count", "positive", "categorical, 3", "–", "–", "categorical, 2"]
    assert cells["missing"][2] == "14.3 %"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "ill"}, "--label and --ordinary go together; name --ordinary VALUE"),
        ({"ordinary": "no"}, "--label and --ordinary go together; name --label COLUMN"),
        ({"label": "ill", "ordinary": "maybe"}, "--ordinary: no label 'maybe'; column 'ill' has no, yes"),
        ({"label": "sick", "ordinary": "no"}, "--label: no column 'sick'; there are "),
        ({"drop": ["sick"]}, "drop: no column 'sick'; there are "),
        ({"name": "Our People"}, "name: String should match pattern"),
    ],
)
def test_what_a_draft_cannot_be_made_of(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingInputError, match=message) as error:
        drafted(people(tmp_path), **options)
    assert "\n" not in str(error.value)


def test_a_table_too_small_or_absent(tmp_path: Path) -> None:
    with pytest.raises(TrainingInputError, match="50 rows to model; at least 60 are needed"):
        drafted(people(tmp_path, n=50))
    with pytest.raises(TrainingInputError, match=r"absent.csv: no such file"):
        drafted(tmp_path / "absent.csv")


# -- the command ---------------------------------------------------------------------------------------------------


def test_a_recipe_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = people(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert command("elsewhere/" + path.name, "--recipe-only", "--drop", "city", "--name", "folk") == 0
    said = capsys.readouterr().out
    assert "recipe: folk.yaml" in said
    assert "nonesuch train folk.yaml --data elsewhere" in said
    recipe = parse_recipe((tmp_path / "folk.yaml").read_text(encoding="utf-8"))
    assert isinstance(recipe.data, CsvData)
    assert (recipe.data.file, recipe.data.drop) == (path.name, ("city",))
    assert not (tmp_path / "bundles").exists()


def test_options_of_a_table_do_not_go_with_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path / "a.yaml", "--drop", "city") == 2
    assert "--drop goes with data, not with a recipe" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_ends_in_a_calibrated_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = measurements(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("training.draft._STEPS", 300)
    assert command(path) == 0
    assert "family: realnvp: every column is continuous" in capsys.readouterr().out
    manifest = open_bundle(tmp_path / "bundles" / "bolts" / "1").manifest
    assert manifest.calibration is not None
    assert manifest.calibration.n == 105
    assert manifest.calibration.rows == "rows of bolts.csv"
    assert [column.name for column in manifest.support.columns or ()] == ["length", "width"]
    assert manifest.provenance.recipe == (tmp_path / "bolts.yaml").read_text(encoding="utf-8")


# -- for anomaly scores ----------------------------------------------------------------------------------------------


def test_for_anomaly_scores_every_number_is_real_and_three_statistics_make_the_score(tmp_path: Path) -> None:
    _, recipe = drafted(measurements(tmp_path), purpose="anomaly")
    assert recipe.family == "mixture-of-gaussians"
    assert recipe.training is None
    assert recipe.anomaly is not None
    assert list(recipe.anomaly.directions) == ["neighbours", "local_outlier_factor", "mixture"]
    assert recipe.anomaly.reference == "cross-fit"
    assert recipe.folds.test == 0.1
    assert recipe.folds.repeats == "apart", "calibration rows are to be dealt as the rows that come are drawn"
    _, usual = drafted(tmp_path / "bolts.csv")
    assert (usual.family, usual.anomaly and usual.anomaly.statistics) == ("realnvp", None)


def test_for_anomaly_scores_words_and_holes_stay_what_they_are(tmp_path: Path) -> None:
    _, recipe = drafted(people(tmp_path), purpose="anomaly")
    assert isinstance(recipe.data, CsvData)
    kinds = {name: spec.kind for name, spec in recipe.data.columns.items()}
    assert kinds == {"age": "real", "income": "real", "city": "categorical", "ill": "categorical"}
    assert recipe.family == "tabular-made"
    assert recipe.training is not None
    data = load_data(recipe, tmp_path)
    assert [column.missing_allowed for column in data.support.columns or ()] == [False, True, False, False]


def test_for_anomaly_scores_rounded_columns_are_dequantised_and_long_tables_set_rows_aside(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    counts = RNG.poisson(3.0, size=(4200, 2))
    path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in counts))
    _, recipe = drafted(path, purpose="anomaly")
    assert recipe.model["dequantise"] is True
    assert recipe.anomaly is not None
    assert recipe.anomaly.reference == "fold"


def test_for_anomaly_scores_a_column_rounded_nearly_too_coarsely_is_dequantised(tmp_path: Path) -> None:
    # 0.01 is 0.095 of this column's spread; among the training rows it may be a little less, and the fit would fail.
    path = tmp_path / "nearly.csv"
    rows = np.random.default_rng(5).normal(size=(60, 2))
    rows *= [0.105, 1.0] / rows.std(axis=0)
    path.write_text("a,b\n" + "".join(f"{a:.2f},{b:.6f}\n" for a, b in rows))
    _, recipe = drafted(path, purpose="anomaly")
    assert recipe.model["dequantise"] is True


def test_what_a_recipe_is_for_is_said_of_a_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft, _ = drafted(measurements(tmp_path))
    path, _ = write_draft(draft, tmp_path)
    assert command(path, "--for", "anomaly") == 2
    assert "--for goes with data, not with a recipe" in capsys.readouterr().err
