"""The rules of a Q&A set as Great Expectations: failing rows by number, and Data Docs.

Great Expectations passes an empty batch and an empty suite, and an expectation that cannot fail looks like a clean set.
So the suite first meets canaries: rows made to break each rule. The rows of the set count only after every canary was
reported, and only if every expectation was evaluated over every row.
"""

from __future__ import annotations

import html
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate.core.errors import ValidationIncompleteError
from tidegate.core.examples import ROW_RULES

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext
    from great_expectations.expectations.expectation import Expectation

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "partial_unexpected_count": 200,
    "return_unexpected_index_query": False,
}
"""Every failing row, and in the Data Docs as many failing values of a rule as Great Expectations keeps (200)."""

_EXPECTATIONS = {
    "absent": "expect_column_values_to_be_null",
    "present": "expect_column_values_to_not_be_null",
    "between": "expect_column_values_to_be_between",
    "unique": "expect_column_values_to_be_unique",
}
"""How Great Expectations calls each kind of rule."""

_ICONS = r"<style>.fa-check-circle::before {content: '\2714'} .fa-times::before {content: '\2718'}</style>"
"""The marks of passed and failed, unless the page can load its icon font."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over one column, and how Great Expectations expects it."""

    name: str
    """A key of ``ROW_RULES``, or the name of a rule over the set."""
    column: str
    kind: Literal["absent", "present", "between", "unique"]
    """``absent``: every value is null (the column says what is wrong with the row); ``present``: none is.

    ``between`` and ``unique`` ignore nulls.
    """
    low: float | None = None
    """Least value allowed by ``between``."""
    high: float | None = None
    """Greatest value allowed by ``between``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a validation found."""

    failed: dict[str, tuple[int, ...]]
    """Numbers of the failing rows, from 0 and ascending, by rule; only rules that failed."""
    expected: int
    """Expectations that should have been evaluated."""
    evaluated: int
    statistics: dict[str, Any]
    """A summary for each expectation, as JSON values."""


def validate(
    name: str, columns: Mapping[str, Sequence[object]], rules: Sequence[Rule], data_docs: Path | None = None
) -> Outcome:
    """Validate the rows of the set ``name``, and build Data Docs into the folder ``data_docs``.

    Raise ``ValidationIncompleteError`` unless every rule could fail and was evaluated over every row.
    """
    rows = _row_count(name, columns, rules)
    canaries = _canaries(rules)
    context = _context()
    suite = _suite(context, name, rules)
    batches = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    _self_test(_evaluate(batches, suite, canaries), rules, canaries)
    result = _evaluate(batches, suite, columns)
    failed_rows = _failed_rows(result, rules, rows)
    if data_docs is not None:
        _build_data_docs(context, name, result, data_docs)
    failed: dict[str, set[int]] = {}
    for rule, numbers in zip(rules, failed_rows, strict=True):
        if numbers:
            failed.setdefault(rule.name, set()).update(numbers)
    return Outcome(
        {rule: tuple(sorted(numbers)) for rule, numbers in failed.items()},
        expected=len(rules),
        evaluated=len(result.results),
        statistics=_statistics(result, rules),
    )


def _row_count(name: str, columns: Mapping[str, Sequence[object]], rules: Sequence[Rule]) -> int:
    """Return the number of rows; raise where Great Expectations would pass for want of rows, values or rules."""
    if not rules:
        raise ValidationIncompleteError(f"the suite of {name!r} has no rules")
    lengths = {column: len(values) for column, values in columns.items()}
    rows = max(lengths.values(), default=0)
    if not rows:
        raise ValidationIncompleteError(f"the set {name!r} has no rows", next_action="give the set at least one row")
    for column, length in lengths.items():
        if length != rows:
            raise ValidationIncompleteError(f"the column {column!r} of {name!r} has {length} values for {rows} rows")
    return rows


def _context() -> AbstractDataContext:
    """Return a context that lives in memory, sends nothing and shows no progress bars."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    progress_bars = ProgressBarsConfig(globally=False)
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(store_backend_defaults=stores, progress_bars=progress_bars),
    )


def _suite(context: AbstractDataContext, name: str, rules: Sequence[Rule]) -> ExpectationSuite:
    """Return the suite of the rules; each expectation knows the number of its rule."""
    import great_expectations as gx

    expectations = [_expectation(rule, number) for number, rule in enumerate(rules)]
    return context.suites.add(gx.ExpectationSuite(name, expectations))


def _expectation(rule: Rule, number: int) -> Expectation:
    """Return the expectation of a rule."""
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    kwargs: dict[str, Any] = {"column": rule.column}
    if rule.kind == "between":
        kwargs |= {"min_value": rule.low, "max_value": rule.high}
    return ExpectationConfiguration(
        type=_EXPECTATIONS[rule.kind], kwargs=kwargs, meta={"number": number}, description=_description(rule)
    ).to_domain_obj()


def _description(rule: Rule) -> str:
    """Return what the Data Docs say of a rule: its name, when a row fails it, and its bounds."""
    parts = [f"{rule.name}: fails where {ROW_RULES[rule.name]}" if rule.name in ROW_RULES else rule.name]
    if rule.low is not None:
        parts.append(f"at least {rule.low:g}")
    if rule.high is not None:
        parts.append(f"at most {rule.high:g}")
    return "; ".join(parts)


def _evaluate(
    batches: BatchDefinition[Any], suite: ExpectationSuite, columns: Mapping[str, Sequence[object]]
) -> ExpectationSuiteValidationResult:
    """Evaluate the suite over one batch of rows."""
    import pandas as pd  # type: ignore[import-untyped]

    # Object columns keep each value as it is: no integer becomes a float because another row has none.
    series = {
        column: pd.Series([_storable(value) for value in values], dtype=object) for column, values in columns.items()
    }
    frame = pd.DataFrame(series)
    return batches.get_batch({"dataframe": frame}).validate(suite, result_format=_RESULT_FORMAT)


def _storable(value: object) -> object:
    """Return a text that UTF-8 can hold (a lone surrogate stands escaped); other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _canaries(rules: Sequence[Rule]) -> dict[str, list[object]]:
    """Return a batch in which each rule fails on some rows and holds on others."""
    columns: dict[str, list[object]] = {}
    for rule in rules:
        columns.setdefault(rule.column, []).extend(_samples(rule))
    rows = max(len(values) for values in columns.values())
    return {column: [*values, *[None] * (rows - len(values))] for column, values in columns.items()}


def _samples(rule: Rule) -> list[object]:
    """Return values that break the rule, and values that just do not."""
    if rule.kind == "absent":
        return ["canary", None]
    if rule.kind == "present":
        return [None, 0]
    if rule.kind == "unique":
        return [0, 0, 1]
    samples: list[object] = []
    if rule.low is not None:
        samples += [math.nextafter(rule.low, -math.inf), rule.low]
    if rule.high is not None:
        samples += [math.nextafter(rule.high, math.inf), rule.high]
    if not samples:
        raise ValidationIncompleteError(f"the rule {rule.name!r} has no bound and cannot fail")
    return samples


def _broken_by(rule: Rule, values: Sequence[Any]) -> tuple[int, ...]:
    """Return the rows that break the rule by its definition."""
    counts = Counter(values)
    return tuple(number for number, value in enumerate(values) if not _holds(rule, value, counts[value]))


def _holds(rule: Rule, value: Any, count: int) -> bool:
    """Tell whether a value that occurs ``count`` times meets the rule."""
    if rule.kind == "absent":
        return value is None
    if rule.kind == "present":
        return value is not None
    if rule.kind == "unique":
        return value is None or count == 1
    low = -math.inf if rule.low is None else rule.low
    high = math.inf if rule.high is None else rule.high
    return value is None or bool(low <= value <= high)


def _self_test(
    result: ExpectationSuiteValidationResult, rules: Sequence[Rule], canaries: Mapping[str, Sequence[object]]
) -> None:
    """Raise unless each rule was reported for exactly the canaries that break it."""
    rows = max(len(values) for values in canaries.values())
    for rule, found in zip(rules, _failed_rows(result, rules, rows), strict=True):
        broken = _broken_by(rule, canaries[rule.column])
        if found != broken or not broken:
            raise ValidationIncompleteError(
                f"the rule {rule.name!r} over {rule.column!r} cannot be trusted to fail: "
                f"rows {list(broken)} of the self-test break it, and {list(found)} were reported"
            )


def _by_rule(result: ExpectationSuiteValidationResult, rules: Sequence[Rule]) -> list[ExpectationValidationResult]:
    """Return the result of each rule, in their order; raise if one is missing."""
    found = {item.expectation_config.meta["number"]: item for item in result.results if item.expectation_config}
    missing = [rule.name for number, rule in enumerate(rules) if number not in found]
    if missing:
        raise ValidationIncompleteError(
            f"{len(found)} of {len(rules)} expectations were evaluated; missing: {', '.join(missing)}"
        )
    return [found[number] for number in range(len(rules))]


def _failed_rows(result: ExpectationSuiteValidationResult, rules: Sequence[Rule], rows: int) -> list[tuple[int, ...]]:
    """Return the failing rows of each rule; raise if one was not evaluated over all rows."""
    return [_rows_of(item, rule, rows) for item, rule in zip(_by_rule(result, rules), rules, strict=True)]


def _rows_of(item: ExpectationValidationResult, rule: Rule, rows: int) -> tuple[int, ...]:
    """Return the failing rows of one expectation; raise if its result is not whole."""
    subject = f"the rule {rule.name!r} over {rule.column!r}"
    if raised := _exception_message(item.exception_info):
        raise ValidationIncompleteError(f"{subject} was not evaluated: {raised}")
    seen = item.result.get("element_count", "none")
    if seen != rows:
        raise ValidationIncompleteError(f"{subject} saw {seen} of {rows} rows")
    numbers = tuple(sorted(int(number) for number in item.result.get("unexpected_index_list") or ()))
    count = item.result["unexpected_count"]
    if len(numbers) != count or item.success != (not count):
        raise ValidationIncompleteError(
            f"{subject} counts {count} failing rows, names {len(numbers)} and {'passes' if item.success else 'fails'}"
        )
    return numbers


def _exception_message(info: Mapping[str, Any]) -> str:
    """Return what an expectation raised, or nothing: one record, or one for each metric that failed."""
    records = [info] if "raised_exception" in info else list(info.values())
    raised = [record["exception_message"] for record in records if record["raised_exception"]]
    return "; ".join(message or "an exception without a message" for message in raised)


def _statistics(result: ExpectationSuiteValidationResult, rules: Sequence[Rule]) -> dict[str, Any]:
    """Return a summary of the result as JSON values."""
    return {
        "great_expectations": result.meta["great_expectations_version"],
        "expectations": [
            {
                "rule": rule.name,
                "column": rule.column,
                "expectation": item.expectation_config.type if item.expectation_config else "",
                "element_count": int(item.result["element_count"]),
                "unexpected_count": int(item.result["unexpected_count"]),
                "success": bool(item.success),
            }
            for item, rule in zip(_by_rule(result, rules), rules, strict=True)
        ],
    }


def _build_data_docs(
    context: AbstractDataContext, name: str, result: ExpectationSuiteValidationResult, folder: Path
) -> None:
    """Build the Data Docs of the suite and of this result; the front page is ``index.html``."""
    from great_expectations import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )
    from great_expectations.render.renderer.site_builder import SiteBuilder

    run = RunIdentifier(run_name="validation", run_time=datetime.now(UTC))
    result.meta["run_id"] = run
    result.meta["batch_spec"]["data_asset_name"] = name
    _escape(result)
    key = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), run, name)
    context.validation_results_store.set(key, result)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    site = SiteBuilder(context, store, site_name=name, show_how_to_buttons=False)
    _, links = site.build()
    _finish_site(folder, links or {}, name)


def _escape(result: ExpectationSuiteValidationResult) -> None:
    """Escape the failing values: Great Expectations writes them into its pages as they are."""
    for item in result.results:
        for key in ("unexpected_list", "partial_unexpected_list"):
            item.result[key] = [_escaped(value) for value in item.result.get(key) or ()]
        for entry in item.result.get("partial_unexpected_counts") or ():
            entry["value"] = _escaped(entry["value"])


def _escaped(value: object) -> object:
    """Return a text as HTML that shows it; other values as they are."""
    return html.escape(value) if isinstance(value, str) else value


def _finish_site(folder: Path, links: Mapping[str, Any], name: str) -> None:
    """Make the pages work without a network, and drop the pictures that no page shows; raise if a page is missing."""
    items = []
    for title, section in (("Validation result", "validations_links"), ("Rules", "expectations_links")):
        if not links.get(section):
            raise ValidationIncompleteError(f"the Data Docs of {name!r} have no page {title!r}; the log has the reason")
        items.append(f'<a href="{html.escape(links[section][0]["filepath"])}">{title}</a>')
    index = folder / "index.html"
    page = index.read_text(encoding="utf-8")
    index.write_text(page.replace("<body>", f"<body>\n<p>{' | '.join(items)}</p>", 1), encoding="utf-8")
    for path in folder.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        path.write_text(page.replace("<head>", f"<head>\n{_ICONS}", 1), encoding="utf-8")
    for path in (folder / "static").rglob("*"):
        if path.is_file() and path.name != "favicon.ico":
            path.unlink()
