"""The base class of all records in a manifest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable fields; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
