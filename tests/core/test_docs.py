"""The documentation says what the code does: settings, variables, keys, commands, crash points and links."""

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.conftest import ROOT
from tidegate.cli.main import build_parser
from tidegate.core import keys
from tidegate.core.config import CorpusConfig, parse_corpus
from tidegate.core.training_config import TrainingConfig
from tidegate.local.settings import load_settings

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(page for page in (ROOT / "README.md", ROOT / "CHANGELOG.md") if page.is_file())])
CODE = sorted([*(ROOT / "include" / "tidegate").rglob("*.py"), *(ROOT / "dags").glob("*.py")])

Row = tuple[str, ...]


def rows(page: str) -> list[Row]:
    """Return the cells of every table row of a page of docs/."""
    lines = (DOCS / page).read_text().splitlines()
    return [tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for line in lines if line.startswith("| ")]


def spans(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def fields(model: type[BaseModel] = CorpusConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting of a corpus file by its dotted key."""
    for name, field in model.model_fields.items():
        nested = [kind for kind in (field.annotation, *get_args(field.annotation)) if is_model(kind)]
        if nested:
            yield from fields(nested[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


SETTINGS = dict(fields())


def documented() -> dict[str, Row]:
    """Return the rows of docs/configuration.md that describe a setting, by key."""
    found = [(spans(row[0]), row) for row in rows("configuration.md") if len(row) == 4]
    keys_of = [(names[0], row) for names, row in found if names and re.fullmatch(r"[a-z0-9_.]+", names[0])]
    assert len(keys_of) == len(dict(keys_of)), "a setting is documented twice"
    return dict(keys_of)


def test_every_setting_of_a_corpus_file_is_documented_and_no_other() -> None:
    assert set(documented()) == set(SETTINGS)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    required: dict[str, Any] = {"corpus": "docs", "source": {"path": "docs"}, "training": {}}
    required["evaluation"] = {name: {"url": "http://localhost", "model": "base"} for name in ("endpoint", "judge")}
    given = copy.deepcopy(required)
    for key, row in documented().items():
        default = spans(row[2])
        assert bool(default) != SETTINGS[key].is_required(), f"{key}: {row[2]}"
        if default:
            *sections, name = key.split(".")
            place = given
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = yaml.safe_load(default[0])
    assert parse_corpus(given, where="docs") == parse_corpus(required, where="docs")


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_the_documented_values_of_a_setting_are_the_valid_ones(key: str) -> None:
    described = documented()[key][1]
    annotation = SETTINGS[key].annotation
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    assert spans(described) == list(choices)
    assert ("null" in described) == (type(None) in get_args(annotation))
    bounds = {Ge: "≥", Gt: ">", Le: "≤"}
    limits = [item for item in SETTINGS[key].metadata if type(item) in bounds]
    expected = [f"{bounds[type(item)]} {next(iter(vars_of(item))):g}" for item in limits]
    assert sorted(re.findall(r"[≥>≤] \d+(?:\.\d+)?", described)) == sorted(expected)


def vars_of(limit: Ge | Gt | Le) -> list[float]:
    return [getattr(limit, name) for name in ("ge", "gt", "le") if hasattr(limit, name)]


def test_the_documented_presets_are_those_of_the_code() -> None:
    shown = {}
    for row in rows("configuration.md"):
        if len(row) == 3 and spans(row[0]) and (TRAINING_KEY.issuperset(spans(row[0]))):
            for name, *values in zip(spans(row[0]), *(cell.split(", ") for cell in row[1:]), strict=True):
                shown[name] = [yaml.safe_load(value.replace(",", "")) for value in values]
    presets = [TrainingConfig(preset=name).model_dump(mode="json") for name in ("small", "large")]
    differing = {key for key in TRAINING_KEY - {"preset"} if at(presets[0], key) != at(presets[1], key)}
    assert shown == {key: [at(preset, key) for preset in presets] for key in differing}


TRAINING_KEY = {key.removeprefix("training.") for key in SETTINGS if key.startswith("training.")}


def at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def test_every_environment_variable_is_documented_and_no_other() -> None:
    names = {
        node.value
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"TIDEGATE_[A-Z_]+", node.value)
    }
    listed = {name for row in rows("configuration.md") for name in spans(row[0]) if name.startswith("TIDEGATE_")}
    assert listed == names
    assert len(names) >= 7


def test_the_documented_airflow_settings_are_those_of_the_file() -> None:
    settings = load_settings(ROOT / "airflow_settings.yaml")
    expected = {
        *(("pool", pool.pool_name, f"{pool.pool_slot} slot") for pool in settings.pools),
        *(("variable", item.variable_name, f"`{item.variable_value}`") for item in settings.variables),
        *(("connection", item.conn_id, f"type `{item.conn_type}`") for item in settings.connections),
    }
    entries = [
        row for row in rows("configuration.md") if row[0] in ("pool", "variable", "connection") and spans(row[1])
    ]
    listed = {(entry, spans(name)[0], value) for entry, name, value, _ in entries}
    assert listed == expected


def test_every_key_of_the_store_is_documented_and_no_other() -> None:
    made = {
        keys.segment_prefix("<corpus>", "<digest>.<build8>"),
        keys.snapshot_manifest("<corpus>", "<digest>"),
        keys.snapshot_tombstones("<corpus>", "<digest>"),
        keys.snapshot_head("<corpus>"),
        keys.dataset("<corpus>", "<digest>"),
        keys.dataset_head("<corpus>"),
        keys.adapter("<corpus>", "<digest>.<build8>"),
        keys.adapter_head("<corpus>"),
        keys.checkpoints("<corpus>", "<op_id>").rstrip("/"),
        keys.throughput("<corpus>", "<pool>"),
        keys.failures("<corpus>"),
        keys.answers("<corpus>", "<scope>"),
        keys.latency("<corpus>", "<scope>"),
        keys.verdict("<corpus>", "<digest>.<build8>"),
        keys.prompts("<corpus>", "<digest>"),
        keys.evaluation("<corpus>", "<inputs>"),
        keys.approval("<corpus>", "<digest>"),
        keys.event("<corpus>", "<time>-<digest8>"),
        keys.release("<corpus>", "<digest>"),
        keys.channel_head("<corpus>", "champion"),
        keys.channel_entry("<corpus>", "champion", "<digest>"),
        keys.hints("<corpus>", "folder"),
        keys.source_note("<corpus>", "folder"),
        keys.runs("<corpus>").rstrip("/"),
    }
    inside = {"dataset_manifest", "dataset_pages", "run_pages", "adapters", "adapter_manifest", "trained_on"}
    inside |= {"evaluation_results", "evaluation_predictions", "events", "adapters_refused"}
    candidate = {keys.channel_head("<corpus>", "candidate"), keys.channel_entry("<corpus>", "candidate", "<digest>")}
    functions = [name for name, value in vars(keys).items() if callable(value) and name not in inside]
    listed = {spans(row[0])[0] for row in rows("store.md") if row[0].startswith("`<corpus>/")}
    folded = {
        re.sub(
            r"^(<corpus>/(?:(?:segments|adapters)/<digest>\.<build8>|datasets/<digest>|evaluations/<inputs>"
            r"|checkpoints/<op_id>|runs))/.*",
            r"\1",
            key,
        )
        for key in listed
    }
    assert folded == made | candidate
    assert len(functions) == len(made)


def test_every_crash_point_of_the_code_is_explained_and_no_other() -> None:
    points = {
        name for path in CODE for name in re.findall(r"^\s+reach\(\"([\w-]+)\"\)", path.read_text(), re.MULTILINE)
    }
    table = (DOCS / "guarantees.md").read_text().partition("## Crash points")[2].partition("\n## ")[0]
    assert (
        set(
            re.findall(
                r"^\| `?(K\d+|written|read-back|(?:dataset|adapter|checkpoint)-[a-z]+)`? \|", table, re.MULTILINE
            )
        )
        == points
    )
    assert {"K1", "K14"} <= points


def test_every_command_that_the_documentation_names_exists() -> None:
    parser = build_parser()
    commands = next(action for action in parser._actions if action.dest == "command").choices
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        code = " ".join([*re.findall(r"```.*?```", text, re.DOTALL), *re.findall(r"`[^`\n]+`", text)])
        assert set(re.findall(r"\btidegate ([a-z]+)", code)) <= set(commands), page.name
        assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert linked.is_relative_to(ROOT), f"{page.name} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_that_the_code_names_exists() -> None:
    places = [
        *CODE,
        *(ROOT / "include" / "corpora").glob("*.yaml"),
        ROOT / "airflow_settings.yaml",
        ROOT / ".env.example",
    ]
    named = {name for path in places for name in re.findall(r"\bdocs/[\w/.-]*\w", path.read_text())}
    for name in named:
        assert (ROOT / name).is_file() or len(list(ROOT.glob(f"{name}-*.md"))) == 1, name
    assert {"docs/runbook.md", "docs/adr/0003"} <= named


def test_decisions_are_numbered_without_gaps_and_have_the_same_parts() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert text.startswith(f"# {record.name[:4]} "), record.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], record.name
