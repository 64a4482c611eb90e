"""YAML front matter: scalar values become metadata, as they are written; anything else never fails a document."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

_FRONT_MATTER = re.compile(r"\A---[^\n]*\n(.*?)\n(?:---|\.\.\.)[^\n]*(?:\n|\Z)", re.DOTALL)
_PLAIN_LINE = re.compile(r"^([A-Za-z][\w-]*):[ \t]+(\S.*)$", re.MULTILINE)
_YAML_LINE = re.compile(r"[A-Za-z][\w-]*:|[ \t]|- |#|$")
_ALIAS = re.compile(r"(?:^|[\s:\-\[{,])[&*]\w")
_MAX_CHARACTERS = 65_536
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # every scalar stays text: a version 2.10 is not 2.1


def split_front_matter(text: str) -> tuple[Mapping[str, str], str]:
    """Return (metadata, body). Front matter that is not valid YAML still yields its plain ``key: value`` lines."""
    match = _FRONT_MATTER.match(text)
    if match is None or len(match[1]) > _MAX_CHARACTERS:
        return {}, text
    try:
        # Anchors and aliases can blow up a small text, so they are not expanded.
        loaded = None if _ALIAS.search(match[1]) else yaml.load(match[1], Loader=_Loader)  # noqa: S506 - it makes text, lists and dicts only
    except (yaml.YAMLError, ValueError, RecursionError):
        loaded = None
    if loaded is None and all(_YAML_LINE.match(line) for line in match[1].split("\n")):
        loaded = {key: value.strip().strip("\"'") for key, value in _PLAIN_LINE.findall(match[1])}
    if not isinstance(loaded, dict) or not loaded:
        return {}, text  # a passage between two rules, not front matter
    return scalar_metadata(loaded), text[match.end() :]


def scalar_metadata(values: Mapping[object, object]) -> dict[str, str]:
    """Keep what a filter can compare: texts, and lists of texts joined with ', '."""
    metadata = {}
    for key, value in values.items():
        items = value if isinstance(value, list) else [value]
        texts = [item for item in items if isinstance(item, str)]
        if any(texts) and len(texts) == len(items):
            metadata[str(key)] = ", ".join(texts)
    return metadata
