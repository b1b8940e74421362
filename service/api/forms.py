"""The forms that requests and answers of a call have: JSON always; npy, npz and PNG where they fit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from starlette.datastructures import Headers

from runtime.picture import is_picture
from service.api import codecs, schemas
from service.api.arrays import arrays_of, metadata, read_npy, write_npy, write_npz
from service.api.negotiation import EVENTS, JSON, NPY, NPZ, PNG, choose
from service.api.pictures import draw, most_on_sheet
from service.api.problems import ProblemError
from service.api.query import merge, read_query
from service.catalogue import Catalogue
from service.operations import Answer

__all__ = ["EVENTS_IN_WORDS", "ArrayName", "Forms", "read_request", "write_answer"]

ArrayName = Literal["rows", "codes", "log_prob", "probabilities"]
Asked = TypeVar("Asked", bound=schemas.Asked)

# A list that fits every request model, in whose place the array is put once all the rest has been checked.
_PLACEHOLDER = [None]


@dataclass(frozen=True)
class Forms:
    """What a call takes and gives beside JSON; see ``calls.post``."""

    array_in: ArrayName | None = None
    array_out: ArrayName | None = None
    several_out: bool = False
    picture_out: bool = False
    events_out: bool = False
    array_example: bool = True

    @cached_property
    def bodies(self) -> tuple[str, ...]:
        """Types of body that are taken."""
        return (JSON, NPY) if self.array_in else (JSON,)

    @property
    def body_optional(self) -> bool:
        """Whether the query string can say everything, so that a body need not come."""
        return self.array_in is None

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Types of answer that are given, the preferred one first."""
        offered = (
            (True, JSON),
            (self.array_out, NPY),
            (self.several_out, NPZ),
            (self.picture_out, PNG),
            (self.events_out, EVENTS),
        )
        return tuple(media_type for offer, media_type in offered if offer)

    def check_asked(self, catalogue: Catalogue, wanted: str, asked: schemas.Asked, n: int) -> None:
        """Refuse what could not be written as it is wanted, before it is computed.

        Raises:
            UnknownModel.
            ProblemError: 406 for pictures of rows that are none, 422 for more of them than fit one, or for previews
                that nobody could be sent.
        """
        if wanted != EVENTS and getattr(asked, "previews", None):
            raise ProblemError(
                "invalid-request",
                f"previews come as events, which the request does not want; send Accept: {EVENTS}",
                field="previews",
                expected=f"no previews, or Accept: {EVENTS}",
            )
        if wanted != PNG:
            return
        support = catalogue.get(asked.model, asked.version).manifest.support
        if not is_picture(support):
            raise ProblemError(
                "not-acceptable",
                f"rows of {asked.model!r} are no pictures, and the header Accept allows nothing else",
                expected=f"{JSON} or {NPY}",
            )
        most = most_on_sheet(support)
        if n > most:
            raise ProblemError(
                "answer-too-large",
                f"{most} pictures of {asked.model!r} fit one sheet at most, and {n} were asked for; page with start",
                field="n",
                expected=f"at most {most}",
                got=str(n),
            )

    def describe_body(self) -> dict[str, Any]:
        """OpenAPI media types of bodies beside JSON."""
        if self.array_in is None:
            return {}
        file = {"rows": "points.npy", "codes": "codes.npy"}[self.array_in]
        example = {"summary": f"Two {self.array_in} for the model moons: ?model=moons", "externalValue": _file(file)}
        words = f"The {self.array_in} as an npy file of numbers, [n, …]; every other member goes into the query string."
        examples = {file.removesuffix(".npy"): example} if self.array_example else {}
        return {NPY: {"schema": _bytes(words), "examples": examples}}

    def describe_answer(self) -> dict[str, Any]:
        """OpenAPI media types of answers beside JSON."""
        words = {
            NPY: f"`{self.array_out}` as an npy file; what else the JSON answer says comes as headers: `kind` as "
            "`Nonesuch-Kind`, `digest` as `Nonesuch-Digest`, and so on, JSON where it is no plain string, and nothing "
            "where it is null or longer than 1,024 bytes.",
            NPZ: "Every array of the JSON answer by its name, as an npz file; the rest comes as headers `Nonesuch-…`.",
            PNG: "The rows as a picture, where they are pictures; several as a sheet, line by line.",
        }
        described = {name: {"schema": _bytes(words[name])} for name in self.answers if name in words}
        if self.events_out:
            described[EVENTS] = {"schema": {"type": "string", "description": EVENTS_IN_WORDS}}
        return described


EVENTS_IN_WORDS = (
    "Server-sent events while the rows are drawn, JSON each: `progress` with `done`, a share of the steps of all rows, "
    "and `seconds`, since the start; `preview` with `steps` and the `rows` as they stand, for each number of steps in "
    "`previews`; at the end `result`, the JSON answer, or `problem`, the problem document."
)


def _bytes(words: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": words}


def _file(name: str) -> str:
    return f"/static/examples/{name}"


def read_request(body: bytes, given: str, query: bytes, takes: type[Asked], forms: Forms) -> tuple[Asked, int]:
    """A request from its body and its query string, and how many rows it asks for.

    Raises:
        ProblemError: 400 or 422.
    """
    if given == NPY:
        assert forms.array_in is not None
        array = read_npy(body)
        asked = _with_hint({**read_query(query, takes), forms.array_in: _PLACEHOLDER}, takes)
        asked = asked.model_copy(update={forms.array_in: array})
        return asked, asked.size()
    value = codecs.load(body) if body or not query or not forms.body_optional else {}
    if query and isinstance(value, dict):
        value = merge(value, read_query(query, takes))
    asked = codecs.validate(value, takes)
    return asked, asked.size()


def _with_hint(value: dict[str, Any], takes: type[Asked]) -> Asked:
    try:
        return codecs.validate(value, takes)
    except ProblemError as problem:
        raise ProblemError(
            problem.kind.slug,
            f"{problem.detail}; beside an npy body it stands in the query string",
            **problem.members,
        ) from None


async def write_answer(
    answer: Answer, wanted: str, forms: Forms, headers: Headers
) -> tuple[bytes, str, dict[str, str]]:
    """The answer's bytes, their type, and the headers for what the bytes do not say.

    Raises:
        ProblemError: 406 where an npy file would leave out the error of what it holds.
    """
    if wanted == JSON:
        return await codecs.dump_large(answer.body), JSON, {}
    said = metadata(answer.body)
    if wanted == PNG:
        content = await asyncio.to_thread(draw, answer.body["rows"], answer.model.manifest.support)
        return content, PNG, said
    arrays = arrays_of(answer.body)
    if wanted == NPY and "standard_error" in arrays:
        # A number without its error would say less than it should.
        if choose(headers.get("accept"), [NPZ]) is None:
            raise ProblemError(
                "not-acceptable",
                f"each row's {forms.array_out} has a standard error, which an npy file has no room for; Accept: {NPZ}",
                expected=NPZ,
            )
        wanted = NPZ
    name = forms.array_out
    if wanted == NPY and name is not None:
        array = arrays[name]
        large = array.nbytes > codecs.PIECE_BYTES
        return await asyncio.to_thread(write_npy, array) if large else write_npy(array), NPY, said
    large = sum(array.nbytes for array in arrays.values()) > codecs.PIECE_BYTES
    return await asyncio.to_thread(write_npz, arrays) if large else write_npz(arrays), NPZ, said
