"""YAML front matter: scalar values become metadata; anything else is left alone, and never fails a document."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

_FRONT_MATTER = re.compile(r"\A---[^\n]*\n(.*?)\n(?:---|\.\.\.)[^\n]*(?:\n|\Z)", re.DOTALL)
_PLAIN_LINE = re.compile(r"^([A-Za-z][\w-]*):[ \t]+(\S.*)$", re.MULTILINE)
_ALIAS = re.compile(r"(?:^|[\s:\-\[{,])[&*]\w")
_MAX_CHARACTERS = 65_536
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def split_front_matter(text: str) -> tuple[Mapping[str, str], str]:
    """Return (metadata, body). Front matter that is not valid YAML still yields its plain ``key: value`` lines."""
    match = _FRONT_MATTER.match(text)
    if match is None or len(match[1]) > _MAX_CHARACTERS:
        return {}, text
    try:
        # Anchors and aliases can blow up a small text, so they are not expanded.
        loaded = None if _ALIAS.search(match[1]) else yaml.load(match[1], Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        loaded = None
    if loaded is None:
        loaded = {key: value.strip().strip("\"'") for key, value in _PLAIN_LINE.findall(match[1])}
    if not isinstance(loaded, dict):
        return {}, text
    return scalar_metadata(loaded), text[match.end() :]


def scalar_metadata(values: Mapping[object, object]) -> dict[str, str]:
    """Keep what a filter can compare: scalars as text, lists of scalars joined with ', '."""
    metadata = {}
    for key, value in values.items():
        items = value if isinstance(value, list) else [value]
        if items and all(isinstance(item, str | int | float | bool) or hasattr(item, "isoformat") for item in items):
            metadata[str(key)] = ", ".join(_as_text(item) for item in items)
    return metadata


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
