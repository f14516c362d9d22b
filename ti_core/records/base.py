"""Records and documents: small typed values that travel between stations and lie in the store. No torch.

Never tensors, never pictures: those are blobs, named by their sha256. A `Document` is a record stored on its own; it
carries `schema_version`: a reader refuses a newer one in a sentence, and passes over fields of its own schema that it
does not know, which a later version has added.
"""

import json
from datetime import UTC, datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ti_core.errors import IntegrityError


class Record(BaseModel):
    """An immutable value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Record):
    """A record that is stored on its own, as JSON."""

    SCHEMA: ClassVar[int] = 1
    schema_version: int = 1

    def to_bytes(self) -> bytes:
        """The stored form: indented UTF-8 JSON with a final newline."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """Read a stored document. `source` says where it came from.

        Raises IntegrityError when it is damaged or was written by a newer version.
        """
        try:
            found = cls.model_validate_json(data, extra="ignore")
            version = found.schema_version
        except ValidationError as error:
            version = _schema_version(data)
            if version <= cls.SCHEMA:
                raise IntegrityError(f"{source} is damaged: it does not read as a {cls.__name__} ({error}).") from None
        if version > cls.SCHEMA:
            raise IntegrityError(
                f"{source} has schema version {version}, newer than {cls.SCHEMA}, the newest one readable here: "
                "upgrade Pseudoword."
            )
        return found


def _schema_version(data: bytes) -> int:
    """The schema version of something that cannot be read; 0 where it has none."""
    try:
        version = json.loads(data)["schema_version"]
    except (ValueError, KeyError, TypeError):
        return 0
    return version if isinstance(version, int) else 0


def now() -> datetime:
    """The time of a record: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
