"""The base of all that a manifest is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Fields that do not change, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")
