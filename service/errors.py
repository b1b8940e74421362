"""What can keep the service from answering, other than a bad row (``contract.errors.InputError``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "DeadlineExceeded",
    "Draining",
    "NotSupported",
    "OverQuota",
    "Overloaded",
    "Starting",
    "TooLarge",
    "Unauthorised",
    "UnknownModel",
]


class Overloaded(Exception):  # noqa: N818 - named for the state it reports
    """The queue has no room for this work.

    Attributes:
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, retry_after: float):
        self.retry_after = retry_after
        super().__init__(f"the service is full; try again in {retry_after:.3g} s")


class Draining(Exception):  # noqa: N818
    """The service is shutting down and takes no new work.

    Attributes:
        retry_after: seconds after which another instance should have taken over.
    """

    def __init__(self, retry_after: float):
        self.retry_after = retry_after
        super().__init__("the service is shutting down")


class Starting(Exception):  # noqa: N818
    """The service has just started, and has not yet looked at what was asked for."""

    def __init__(self, message: str = "the bundles are being verified"):
        super().__init__(message)


class DeadlineExceeded(Exception):  # noqa: N818
    """The caller's deadline passed before the work was done."""

    def __init__(self, message: str = "the deadline passed before the work was done"):
        super().__init__(message)


class UnknownModel(LookupError):  # noqa: N818
    """No such model, or no such version of it.

    Attributes:
        name: the model asked for.
        version: the version asked for, or None for the default one.
        known: what there is: names of models when the name is unknown, else versions of that model.
    """

    def __init__(self, name: str, version: int | None, known: Sequence[str]):
        self.name = name
        self.version = version
        self.known = tuple(known)
        what = f"version {version} of the model {name!r}" if version is not None else f"model {name!r}"
        have = ", ".join(self.known) if self.known else "none"
        super().__init__(f"there is no {what}; there is: {have}")


class NotSupported(Exception):  # noqa: N818
    """The model honestly has no such number.

    Attributes:
        model: its name.
        capability: what was asked for.
        reason: why it has none, in the field's own terms.
    """

    def __init__(self, model: str, capability: str, reason: str):
        self.model = model
        self.capability = capability
        self.reason = reason
        super().__init__(f"the model {model!r} does not answer {capability}: {reason}")


class TooLarge(Exception):  # noqa: N818
    """The answer would be larger than the service sends at once.

    Attributes:
        n: rows asked for.
        most: rows that fit.
    """

    def __init__(self, n: int, most: int, limit_bytes: int):
        self.n = n
        self.most = most
        super().__init__(
            f"{n} rows would make an answer of more than {limit_bytes / 2**20:g} MiB; "
            f"ask for at most {most} at a time and page with start"
        )


class Unauthorised(Exception):  # noqa: N818
    """A key is needed, and none was given, or one that is not known.

    Attributes:
        invalid: whether one was given.
    """

    def __init__(self, message: str, *, invalid: bool = False):
        self.invalid = invalid
        super().__init__(message)


class OverQuota(Exception):  # noqa: N818
    """The caller's quota does not allow so many rows.

    Attributes:
        retry_after: seconds after which they fit, or None if they never will at once.
        headers: how the account stands, as header fields.
    """

    def __init__(self, rows: int, limit: int, retry_after: float | None, headers: Mapping[str, str]):
        self.retry_after = retry_after
        self.headers = dict(headers)
        super().__init__(
            f"{rows} rows were asked for at once, and the quota is {limit} a minute; ask for fewer at a time"
            if retry_after is None
            else f"the quota of {limit} rows a minute is used up; {rows} more fit in {max(1, round(retry_after))} s"
        )
