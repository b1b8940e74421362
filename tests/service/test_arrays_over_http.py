"""npy, npz and PNG over a real socket: the numbers of JSON to the last bit, and refusals that say what was wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from contract.bundle import GOLDENS, write_arrays
from service.api.negotiation import EVENTS, NPY, NPZ, PNG
from tests.bundles import Parts, _parts, graph_bytes, log_prob_of, write
from tests.service.server_process import ROOT, ServerProcess, serving
from tests.service.test_refusals import refused
from tests.service.whole import dots_of, normal_of, write_all

X = np.array([[0.0, -0.0], [1.0, -1.0], [0.1, 5.0], [1e300, 3.0], [2**-1070, 7.0]])


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def post(client: httpx.Client, path: str, array: Any, accept: str = "*/*", **query: Any) -> httpx.Response:
    headers = {"Content-Type": NPY, "Accept": accept}
    return client.post(path, params=query, content=saved(array), headers=headers)


def loaded(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NPY
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def unzipped(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NPZ
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as archive:
        return dict(archive)


def numbers(values: Any) -> Any:
    names = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    return np.array([names.get(value, value) if isinstance(value, str) else value for value in values])


# -- both ways -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/log_prob", "/encode", "/anomaly-score"])
def test_rows_as_npy_and_as_json_get_the_same_answer(client: httpx.Client, path: str) -> None:
    by_json = client.post(path, json={"model": "normal", "rows": X.tolist()})
    by_npy = post(client, path, X, model="normal")
    assert by_npy.content == by_json.content
    varying = {"x-request-id": "", "date": "", "nonesuch-cache": ""}
    assert {**by_npy.headers, **varying} == {**by_json.headers, **varying}


def test_codes_as_npy_and_as_json_get_the_same_answer(client: httpx.Client) -> None:
    by_json = client.post("/decode", json={"model": "normal", "codes": X.tolist()})
    assert post(client, "/decode", X, model="normal").content == by_json.content


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x.astype(">f8")),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    ],
)
def test_the_order_of_bytes_and_axes_does_not_matter(client: httpx.Client, form: Any) -> None:
    assert (
        post(client, "/log_prob", form(X), model="normal").content
        == post(client, "/log_prob", X, model="normal").content
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool"])
def test_narrower_numbers_are_the_numbers_that_they_are(client: httpx.Client, dtype: str) -> None:
    x = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype) if dtype == "bool" else np.array([[0.1, 3], [7, 2]], dtype)
    by_json = client.post("/log_prob", json={"model": "normal", "rows": x.tolist()})
    assert post(client, "/log_prob", x, model="normal").content == by_json.content


def test_pictures_nested_and_flat(client: httpx.Client) -> None:
    x = dots_of(np.full(9, 4), np.arange(9))
    by_json = client.post("/log_prob", json={"model": "dots", "rows": x.tolist()})
    for form in (x, x.reshape(9, 16), x.astype(np.float32), np.asfortranarray(x), x.astype(bool)):
        assert post(client, "/log_prob", form, model="dots").content == by_json.content


def test_a_large_array_is_answered_in_pieces_and_in_order(client: httpx.Client) -> None:
    x = np.random.default_rng(0).normal(size=(150_000, 2))
    answer = post(client, "/log_prob", x, NPY, model="normal")
    assert np.allclose(loaded(answer), log_prob_of(x), rtol=1e-12, atol=0)
    x[140_001, 1] = np.nan
    problem = refused(post(client, "/log_prob", x, model="normal"), 422, "invalid-input", row=140_001, column="height")
    assert "row 140001" in problem["detail"]


# -- answers -------------------------------------------------------------------------------------------------------


def test_samples_as_npy(client: httpx.Client) -> None:
    asked = {"model": "normal", "n": 50, "seed": 42, "start": 3, "parameters": {"temperature": 0.5}}
    by_json = client.post("/sample", json=asked)
    answer = client.post("/sample", json=asked, headers={"Accept": NPY})
    rows = loaded(answer)
    assert rows.dtype == np.float64
    assert rows.tobytes() == np.array(by_json.json()["rows"]).tobytes()
    assert rows.tobytes() == normal_of(np.full(50, 42), np.arange(3, 53), 0.5).tobytes()
    said = {name: answer.headers[f"nonesuch-{name}"] for name in ("model", "version", "seed", "start", "n", "profile")}
    assert said == {name: str(by_json.json()[name]) for name in said}
    assert json.loads(answer.headers["nonesuch-parameters"]) == {"temperature": 0.5}
    assert json.loads(answer.headers["nonesuch-columns"]) == ["width", "height"]
    assert answer.headers["nonesuch-digest"] == by_json.headers["nonesuch-digest"] == by_json.json()["digest"]
    assert answer.headers["nonesuch-cache"] in ("hit", "miss", "bypass")


def test_pictures_as_npy_keep_their_type_and_shape(client: httpx.Client) -> None:
    rows = loaded(
        client.post("/sample", json={"model": "dots", "version": 1, "n": 5, "seed": 9}, headers={"Accept": NPY})
    )
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, dots_of(np.full(5, 9), np.arange(5)))


def test_a_seed_that_was_chosen_is_told(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "normal"}, headers={"Accept": NPY})
    seed = int(answer.headers["nonesuch-seed"])
    assert np.array_equal(loaded(answer), normal_of(np.array([seed]), np.array([0])))


def test_log_prob_as_npy_says_what_it_is(client: httpx.Client) -> None:
    answer = post(client, "/log_prob", X, NPY, model="normal")
    by_json = client.post("/log_prob", json={"model": "normal", "rows": X.tolist()}).json()
    assert loaded(answer).tobytes() == numbers(by_json["log_prob"]).tobytes()
    assert loaded(answer)[3] == -np.inf
    assert answer.headers["nonesuch-kind"] == "exact"
    assert answer.headers["nonesuch-units"] == "nats"


def test_codes_and_rows_go_round_as_npy(client: httpx.Client) -> None:
    codes = post(client, "/encode", X, NPY, model="normal")
    assert codes.headers["nonesuch-kind"] == "the row, scaled"
    rows = post(client, "/decode", loaded(codes), NPY, model="normal", version=1)
    assert np.allclose(loaded(rows), X, rtol=1e-15, atol=0)


def test_scores_as_npz(client: httpx.Client) -> None:
    asked = {"model": "normal", "alpha": 0.1, "guarantee": "training_conditional", "fdr": 0.2}
    by_json = client.post("/anomaly-score", json={**asked, "rows": X.tolist()}).json()
    answer = post(client, "/anomaly-score", X, NPZ, **asked)
    arrays = unzipped(answer)
    assert set(arrays) == {"score", "p_value", "is_anomaly", "statistics.log_prob", "is_discovery"}
    assert arrays["is_anomaly"].dtype == bool
    for name in ("score", "p_value", "is_anomaly", "is_discovery"):
        assert arrays[name].tobytes() == numbers(by_json[name]).tobytes()
    assert arrays["statistics.log_prob"].tobytes() == numbers(by_json["statistics"]["log_prob"]).tobytes()
    assert float(answer.headers["nonesuch-alpha"]) == 0.1
    assert int(answer.headers["nonesuch-n-calibration"]) == by_json["n_calibration"]
    assert json.loads(answer.headers["nonesuch-false-alarm-interval"]) == by_json["false_alarm_interval"]
    for name in ("guarantee", "promise", "fdr_promise"):
        assert answer.headers[f"nonesuch-{name.replace('_', '-')}"] == by_json[name]
    unreachable = post(client, "/anomaly-score", X, NPZ, model="normal", alpha=0.001)
    assert "is_anomaly" not in unzipped(unreachable)
    assert "cannot reach" in unreachable.headers["nonesuch-promise"]


def test_everything_of_a_discrete_log_prob_as_npz(client: httpx.Client) -> None:
    x = dots_of(np.full(3, 1), np.arange(3))
    arrays = unzipped(post(client, "/log_prob", x, NPZ, model="dots"))
    by_json = client.post("/log_prob", json={"model": "dots", "rows": x.tolist()}).json()
    assert set(arrays) == {"log_prob", "bits_per_dimension"}
    for name, array in arrays.items():
        assert array.tolist() == by_json[name]


# -- pictures ------------------------------------------------------------------------------------------------------


def test_one_picture_is_the_one_of_the_permanent_link(client: httpx.Client) -> None:
    where = client.get("/x/dots/42").headers["location"]
    answer = client.post("/sample", json={"model": "dots", "seed": 42}, headers={"Accept": PNG})
    assert answer.headers["content-type"] == PNG
    assert answer.content == client.get(f"{where}.png").content
    assert answer.headers["nonesuch-seed"] == "42"


def test_several_pictures_are_a_sheet_line_by_line(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "dots", "version": 1, "n": 7, "seed": 5}, headers={"Accept": PNG})
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert sheet.shape[0] == sheet.shape[1], "seven stand on three lines of three"
    pictures = dots_of(np.full(7, 5), np.arange(7))
    scale = next(s for s in range(1, 200) if 3 * 4 * s + 2 * max(1, s // 2) == sheet.shape[1])
    for place, picture in enumerate(pictures):
        top, left = (i * (4 * scale + max(1, scale // 2)) for i in divmod(place, 3))
        shown = sheet[top : top + 4 * scale, left : left + 4 * scale]
        assert np.array_equal(shown, np.kron(picture, np.ones((scale, scale))) * 255)
    assert len(np.unique(sheet)) == 3, "dots, none, and the gap between pictures"


def test_406_for_pictures_of_rows_that_are_none(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "normal"}, headers={"Accept": PNG})
    assert "'normal'" in refused(answer, 406, "not-acceptable")["detail"]


def test_422_for_more_pictures_than_fit_a_sheet(client: httpx.Client) -> None:
    answer = client.post("/sample", json={"model": "dots", "n": 10**6}, headers={"Accept": PNG})
    assert "page with start" in refused(answer, 422, "answer-too-large", field="n", got="1000000")["detail"]


# -- query and body ------------------------------------------------------------------------------------------------


def test_json_may_use_the_query_too(client: httpx.Client) -> None:
    whole = client.post("/sample", json={"model": "normal", "n": 2, "seed": 1, "parameters": {"temperature": 0.5}})
    query = {"model": "normal", "n": 2, "seed": 1, "parameters.temperature": 0.5}
    assert client.post("/sample", params=query, json={}).content == whole.content
    assert client.post("/sample", params=query, json={"model": "normal", "n": 2}).content == whole.content


def test_the_query_may_say_everything(client: httpx.Client) -> None:
    whole = client.post("/sample", json={"model": "normal", "n": 3, "seed": 1, "parameters": {"temperature": 0.5}})
    where = "/sample?model=normal&n=3&seed=1&parameters.temperature=0.5"
    for headers in ({}, {"Content-Type": "application/json"}, {"Content-Length": "0"}):
        answer = client.post(where, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.content == whole.content
    rows = loaded(client.post(where, headers={"Accept": NPY}))
    assert rows.tolist() == whole.json()["rows"]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "slug"),
    [
        ("/sample", None, {}, 415, "unsupported-media-type"),  # neither says anything
        ("/sample", b"", {"Content-Type": "application/json"}, 400, "unparsable"),
        ("/sample?n=3", None, {}, 422, "invalid-request"),
        ("/sample?model=normal", b"{}", {}, 415, "unsupported-media-type"),
        ("/sample?model=normal", b" ", {"Content-Type": "application/json"}, 400, "unparsable"),
        ("/sample?model=normal", None, {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        ("/log_prob?model=normal", None, {}, 415, "unsupported-media-type"),  # rows never stand there
        ("/log_prob?model=normal", b"", {"Content-Type": "application/json"}, 400, "unparsable"),
    ],
)
def test_an_absent_body_must_be_made_up_for(
    client: httpx.Client, path: str, content: bytes | None, headers: dict[str, str], status: int, slug: str
) -> None:
    refused(client.post(path, content=content, headers=headers), status, slug)


def test_an_answer_is_as_large_as_it_leaves(tmp_path: Path) -> None:
    write_all(tmp_path)
    with serving(tmp_path, NONESUCH_MAX_ANSWER_BYTES="65536") as server, server.client() as client:
        # Two doubles are 16 bytes; as JSON they may take 56. A picture of 16 dots is 16 bytes, or 72.
        for model, as_json in (("normal", 1170), ("dots", 910)):
            for n, accept, status in (
                (as_json, "application/json", 200),
                (as_json + 1, "application/json", 422),
                (4096, NPY, 200),
                (4097, NPY, 422),
            ):
                answer = client.post(f"/sample?model={model}&n={n}", headers={"Accept": accept})
                assert answer.status_code == status, answer.text
                if status == 422:
                    assert f"at most {n - 1} at a time" in refused(answer, 422, "answer-too-large")["detail"]
        codes = np.zeros((4096, 2))
        assert post(client, "/encode", codes, NPY, model="normal").status_code == 200
        assert post(client, "/decode", codes, NPY, model="normal").status_code == 200
        assert post(client, "/encode", codes, model="normal").status_code == 422


def test_422_where_query_and_body_disagree(client: httpx.Client) -> None:
    answer = client.post("/sample?n=3", json={"model": "normal", "n": 2})
    problem = refused(answer, 422, "invalid-request", field="n", expected="one value", got="2 and 3")
    assert "'n' is 2 in the body and 3 in the query string" in problem["detail"]


@pytest.mark.parametrize(
    ("query", "words", "field"),
    [
        ("", "'model' is missing; beside an npy body it stands in the query string", "model"),
        ("?model=normal&version=two", "a whole number, got the string 'two'", "version"),
        ("?model=normal&versoin=2", "did you mean 'version'", "versoin"),
        ("?model=normal&rows=1", "no member 'rows'", "rows"),
    ],
)
def test_422_for_what_the_query_says(client: httpx.Client, query: str, words: str, field: str) -> None:
    answer = client.post(f"/log_prob{query}", content=saved(X), headers={"Content-Type": NPY})
    assert words in refused(answer, 422, "invalid-request", field=field)["detail"]


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model", "array", "words"),
    [
        ("/log_prob", "normal", np.zeros((3, 4)), "shape [2], got an array of shape [3, 4]"),
        ("/log_prob", "normal", np.zeros(2), "shape [2], got an array of shape [2]"),
        ("/log_prob", "normal", np.array(1.0), "at least one row"),
        ("/log_prob", "normal", np.zeros((0, 2)), "at least one row"),
        ("/log_prob", "normal", np.array([["a", "b"]]), "float64, got the dtype <U1"),
        ("/log_prob", "normal", np.array([[1j, 0]]), "complex128"),
        ("/log_prob", "normal", np.array([[0, np.inf]]), "row 0, column 'height': expected a finite number"),
        ("/log_prob", "dots", np.full((2, 4, 4), 2), "expected 0 or 1, got 2"),
        ("/decode", "normal", np.zeros((3, 1)), "codes of shape [2], got an array of shape [3, 1]"),
        ("/decode", "normal", np.array([[0, 0], [0, np.nan]]), "row 1, column 'codes': expected finite numbers"),
    ],
)
def test_422_for_arrays_that_do_not_fit(client: httpx.Client, path: str, model: str, array: Any, words: str) -> None:
    assert words in refused(post(client, path, array, model=model), 422, "invalid-input")["detail"]


def test_400_for_files_that_are_none(client: httpx.Client) -> None:
    for content, words in ((b"", "empty"), (b"{}", "does not start"), (saved(X)[:-8], "80 bytes, and 72 bytes follow")):
        answer = client.post("/log_prob?model=normal", content=content, headers={"Content-Type": NPY})
        assert words in refused(answer, 400, "unparsable")["detail"]


@pytest.mark.parametrize(
    ("path", "headers", "status", "slug"),
    [
        ("/sample", {"Content-Type": NPY}, 415, "unsupported-media-type"),
        ("/log_prob", {"Content-Type": NPZ}, 415, "unsupported-media-type"),
        ("/log_prob", {"Content-Type": NPY, "Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
        ("/anomaly-score", {"Content-Type": NPY, "Accept": NPY}, 406, "not-acceptable"),
        ("/encode", {"Content-Type": NPY, "Accept": NPZ}, 406, "not-acceptable"),
        ("/log_prob", {"Content-Type": NPY, "Accept": PNG}, 406, "not-acceptable"),
    ],
)
def test_types_that_a_call_has_no_use_for(
    client: httpx.Client, path: str, headers: dict[str, str], status: int, slug: str
) -> None:
    problem = refused(client.post(f"{path}?model=normal", content=saved(X), headers=headers), status, slug)
    assert "application/json" in problem["detail"] or "compressed" in problem["detail"]


def bounded() -> Parts:
    """A lower bound of -sum(x²), whose error is |x0|, the row's own."""
    graph = graph_bytes(
        [
            helper.make_node("Mul", ["x", "x"], ["squares"]),
            helper.make_node("ReduceSum", ["squares", "axis"], ["sum"], keepdims=0),
            helper.make_node("Neg", ["sum"], ["log_prob"]),
            helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
            helper.make_node("Abs", ["column"], ["error"]),
        ],
        {"x": (TensorProto.DOUBLE, ["n", 2])},
        {"log_prob": (TensorProto.DOUBLE, ["n"]), "error": (TensorProto.DOUBLE, ["n"])},
        [numpy_helper.from_array(np.array([1]), "axis"), numpy_helper.from_array(np.array(0), "first")],
    )
    bound = {"name": "log_prob", "dtype": "float64", "kind": "lower_bound", "units": "nats"}
    program = {
        "step": "log_prob",
        "inputs": [{"name": "x", "dtype": "float64", "shape": [2], "source": "data"}],
        "outputs": [
            {**bound, "error": {"scope": "row", "output": "error"}},
            {"name": "error", "dtype": "float64", "kind": "standard_error", "units": "nats"},
        ],
    }
    x = np.array([[0.0, 1.0], [-2.0, 0.5]])
    out = {"in.x": x, "out.log_prob": -(x * x).sum(axis=1), "out.error": np.abs(x[:, 0])}
    files = {
        "log_prob.onnx": graph,
        GOLDENS: write_arrays({f"log_prob.{name}": array for name, array in out.items()}),
    }
    return _parts("bounded", 1, {"log_prob": program}, ["log_prob"], files)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    bundles = tmp_path_factory.mktemp("small")
    write_all(bundles)
    write(bundles, bounded())
    with serving(bundles, NONESUCH_MAX_JSON_BYTES="2048", NONESUCH_MAX_BINARY_BYTES="8192") as running:
        yield running


def test_413_beyond_the_limit_of_each_type(small: ServerProcess) -> None:
    with small.client() as client:
        fits, larger = np.zeros((500, 2)), np.zeros((600, 2))
        assert post(client, "/log_prob", fits, model="normal").status_code == 200
        refused(post(client, "/log_prob", larger, model="normal"), 413, "body-too-large", expected="at most 8192 bytes")
        answer = client.post("/log_prob", json={"model": "normal", "rows": fits.tolist()})
        refused(answer, 413, "body-too-large", expected="at most 2048 bytes")


def test_a_number_is_never_sent_without_its_error(small: ServerProcess) -> None:
    x = np.array([[3.0, 1.0], [-0.5, 0.0]])
    with small.client() as client:
        problem = refused(post(client, "/log_prob", x, NPY, model="bounded"), 406, "not-acceptable", expected=NPZ)
        assert "standard error" in problem["detail"]
        for accept in (NPZ, f"{NPY}, {NPZ}", f"{NPY}, */*;q=0.1"):
            answer = post(client, "/log_prob", x, accept, model="bounded")
            arrays = unzipped(answer)
            assert arrays["log_prob"].tolist() == [-10.0, -0.25]
            assert arrays["standard_error"].tolist() == [3.0, 0.5]
            assert (answer.headers["nonesuch-kind"], answer.headers["nonesuch-error-scope"]) == ("lower_bound", "row")


# -- the description -----------------------------------------------------------------------------------------------


def test_examples_of_the_description_are_files_that_work(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    tried = set()
    with serving(ROOT / "bundles") as running, running.client() as shipped:
        for path, methods in document["paths"].items():
            content = methods.get("post", {}).get("requestBody", {}).get("content", {})
            for example in content.get(NPY, {"examples": {}})["examples"].values():
                array = client.get(example["externalValue"]).content
                answer = shipped.post(f"{path}?model=moons", content=array, headers={"Content-Type": NPY})
                assert answer.status_code == 200, answer.text
                tried.add(path)
    assert tried == {"/log_prob", "/encode", "/decode", "/anomaly-score"}


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("/sample", {NPY, PNG, EVENTS}),
        ("/log_prob", {NPY, NPZ}),
        ("/encode", {NPY}),
        ("/decode", {NPY}),
        ("/anomaly-score", {NPZ}),
        ("/classify", {NPY}),
        ("/inpaint", {NPY, PNG}),
    ],
)
def test_every_type_of_answer_is_described(client: httpx.Client, path: str, types: set[str]) -> None:
    described = client.get("/openapi.json").json()["paths"][path]["post"]
    content = described["responses"]["200"]["content"]
    assert set(content) == {"application/json", *types}
    assert content["application/json"]["schema"]["$ref"]
    named = {part["name"] for part in described["parameters"] if part["in"] == "query"}
    assert {"model", "version"} <= named
