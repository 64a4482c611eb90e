"""The base of the sections of a corpus file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and closed: a key that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")
