"""The shape of the code, held by its syntax trees: who imports whom, how large things are, and what never occurs."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "include" / "tidegate"
PRODUCT = ("include", "dags", "plugins")
CODE = (*PRODUCT, "tests", "benchmarks")

AREAS = {"sources", "parsing", "chunking", "indexing", "registry", "evaluation", "qa", "training", "prompting", "ui"}
MAY_IMPORT = {
    "core": set(),
    "sources": {"core"},
    "parsing": {"core"},
    "chunking": {"core"},
    "indexing": {"core"},
    "registry": {"core"},
    "evaluation": {"core"},
    "qa": {"core"},
    "training": {"core"},
    "prompting": {"core"},
    "ui": {"core"},
    "recipes": {"core", "training"},
    "pipelines": {"core", *AREAS},
    "cli": {"core", *AREAS, "pipelines"},
    "orchestration": {"core", *AREAS, "pipelines"},
    "local": {"core", *AREAS, "pipelines", "cli"},  # `make run` shows passages as the command line does
    "dags": {"core", "orchestration"},
    "plugins": {"core", "orchestration"},
    "demo": set(),
}
"""Which parts of the package each folder may import besides itself."""

TRAINERS = {
    f"training/{name}.py"
    for name in ("batches", "checkpoints", "model", "probe", "trl_backend", "trl_trainer", "unsloth_backend")
}
IMPORTED_ONLY_BY = {
    "airflow": {"dags", "plugins", "orchestration"},
    "faiss": {"indexing/vectors.py"},
    "boto3": {"registry/s3_store.py"},
    "botocore": {"registry/s3_store.py"},
    "onnxruntime": {"indexing/embedder_onnx.py", "indexing/onnx_export.py"},
    "torch": {
        "indexing/onnx_export.py",
        "evaluation/greedy_decoding.py",
        "evaluation/transformers_generator.py",
        *TRAINERS,
        "training/base_model.py",
    },
    "transformers": {
        "indexing/onnx_export.py",
        "evaluation/greedy_decoding.py",
        "evaluation/transformers_generator.py",
        "training/base_model.py",
        "training/model.py",
        "training/trl_trainer.py",
        "training/unsloth_backend.py",
    },
    "trl": {"training/trl_trainer.py", "training/unsloth_backend.py"},
    "unsloth": {"training/unsloth_backend.py"},
    "peft": {"evaluation/transformers_generator.py", *TRAINERS}
    - {f"training/{name}.py" for name in ("batches", "checkpoints", "unsloth_backend")},
    "datasets": {"training/trl_trainer.py", "training/unsloth_backend.py"},
    "matplotlib": {"training/loss_curve.py"},
    "rouge_score": {"evaluation/answer_metrics.py"},
    "jinja2": {"prompting/chat.py", "evaluation/report_html.py"},
    "great_expectations": {"qa/expectations.py"},
    "pandas": {"qa/expectations.py"},
    "detect_secrets": {"qa/sensitive.py"},
    "sentence_transformers": {"indexing/embedder_sentence_transformers.py"},
}
"""Heavy or foreign libraries, each behind one wall: a folder, or a module of the package."""

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 45

EVERYTHING = {"Exception", "BaseException"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

USED_FROM_OUTSIDE = {
    "parsing/sandbox.py: serve": "the sandbox starts its child process with this name in a string",
    "core/errors.py: all_failures": "a test compares the codes with the sections of docs/runbook.md",
    "indexing/search.py: document_frequency": "the tests compare it between an incremental index and a rebuilt one",
    "core/yaml_files.py: construct_mapping": "PyYAML calls it",
    "parsing/html.py: convert_pre": "markdownify calls it",
    "orchestration/data_docs.py: get_link": "Airflow calls it",
    "orchestration/rollback_release.py: validate_chosen_options": "Airflow calls it",
    "training/trl_trainer.py: compute_loss": "the trainer calls it",
    "training/trl_trainer.py: create_optimizer": "the trainer calls it",
    "training/trl_trainer.py: create_scheduler": "the trainer calls it",
    "training/trl_trainer.py: on_step_begin": "the trainer calls it",
    "training/trl_trainer.py: on_step_end": "the trainer calls it",
    "training/trl_trainer.py: on_train_begin": "the trainer calls it",
    "local/vllm.py: LocalVllm": "the tests serve adapters with it, before a command does",
    "local/vllm.py: unload_adapter": "the tests serve adapters with it, before a command does",
}
"""Public names of the package that none of its code calls, each with the reason why it stays."""

# The brackets keep these patterns from matching this file.
FORBIDDEN_TEXT = {
    "a path of one machine": r"(?<![\w.])/(w[o]rk|f[a]rm|h[o]me|r[o]ot|o[p]t|U[s]ers)/",
    "a host of a package registry": r"p[y]pi\.\w|p[y]thonhosted|n[p]mjs\.|/s[i]mple/?(\s|$)|a[r]tifactory",
    "how the project was made": (
        r"\b(this|previous|earlier|coding|work) s[e]ssion|s[u]b-?agent|c[l]aude|c[h]atgpt|c[o]pilot"
        r"|\bA[I][- ](generated|written|assisted)|\bthe i[s]sue\b|\bissue #?\d|\ba[c]ceptance (list|criteri|test|point)"
    ),
}
FICTION = "include/demo/"
"""The handbook's company has browser sessions of its own: the last pattern does not apply there."""


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path) -> str:
    """Return a module of the package below its root, any other file below the project."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def folder_of(path: Path) -> str:
    """Return the row of :data:`MAY_IMPORT` that a file belongs to; '' for the package's own ``__init__``."""
    if path.is_relative_to(PACKAGE):
        return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""
    top, second = path.relative_to(ROOT).parts[:2]
    return second if top == "include" else top


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted name of every import of a file: at its top, in functions, for types only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{place(path)}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_each_folder_imports_only_the_layers_below_it() -> None:
    files = [path for path in python_files(*PRODUCT) if folder_of(path)]
    assert {folder_of(path) for path in files} | {"plugins"} == MAY_IMPORT.keys()
    wrong = [
        f"{place(path)}: {name}"
        for path in files
        for name in imports(path)
        if name.startswith("tidegate.") and name != "tidegate.__version__"
        if name.split(".")[1] not in {folder_of(path), *MAY_IMPORT[folder_of(path)]}
    ]
    assert wrong == []


def test_heavy_and_foreign_libraries_stay_behind_one_wall_each() -> None:
    found: dict[str, set[str]] = {library: set() for library in IMPORTED_ONLY_BY}
    for path in python_files(*PRODUCT):
        for library in {name.split(".")[0] for name in imports(path)} & found.keys():
            walls = IMPORTED_ONLY_BY[library]
            found[library].add(folder_of(path) if folder_of(path) in walls else place(path))
    found["airflow"].add("plugins")  # nothing is there yet
    assert found == IMPORTED_ONLY_BY


def test_no_file_and_no_function_is_too_long() -> None:
    files = [
        f"{place(path)}: {count} lines"
        for path in python_files(*CODE)
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    ]
    functions = [
        f"{place(path)}: {node.name}, {length} lines"
        for path in python_files(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert (files, functions) == ([], [])


def test_every_module_is_named_after_what_it_holds() -> None:
    assert [place(path) for path in python_files(*CODE) if VAGUE_NAMES & {path.stem, path.parent.name}] == []


def forbidden_handler(node: ast.ExceptHandler) -> bool:
    """Tell whether a handler is bare, or drops every exception without a word."""
    broad = isinstance(node.type, ast.Name) and node.type.id in EVERYTHING
    return node.type is None or (broad and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body))


def forbidden_call(node: ast.Call, folder: str) -> bool:
    """Tell whether a call starts a shell, unpickles, drops every exception, or prints where results are not shown."""
    called = ast.unparse(node.func)
    if called == "print":
        return folder not in {"cli", "local", "demo", "tests", "benchmarks"}
    if called.endswith("suppress"):
        return any(ast.unparse(kind) in EVERYTHING for kind in node.args)
    options = {word.arg for word in node.keywords if ast.unparse(word.value) != "False"}
    return called == "os.system" or bool(options & {"shell", "allow_pickle"})


def problems(path: Path) -> Iterator[str]:
    """Yield what a file must not do, with its line."""
    for node in ast.walk(tree(path)):
        handler = isinstance(node, ast.ExceptHandler) and forbidden_handler(node)
        if handler or (isinstance(node, ast.Call) and forbidden_call(node, folder_of(path))):
            yield f"{place(path)}:{node.lineno}: {ast.unparse(node)}"
    for name in imports(path):
        if name.split(".")[0] in PICKLES:
            yield f"{place(path)}: imports {name}"


def test_nothing_swallows_exceptions_pickles_starts_a_shell_or_prints_in_passing() -> None:
    assert [problem for path in python_files(*CODE) for problem in problems(path)] == []


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file that is, or is about to be, tracked."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in (ROOT / name for name in listed.split("\0") if name):
        if path.is_file() and path.suffix not in {".pdf", ".png"}:
            yield path, path.read_text(encoding="utf-8")


def test_no_text_names_a_machine_a_registry_or_how_it_was_made() -> None:
    *always, about_itself = ((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in FORBIDDEN_TEXT.items())
    found = []
    for path, text in tracked_texts():
        patterns = always if place(path).startswith(FICTION) else [*always, about_itself]
        for number, line in enumerate(text.splitlines(), 1):
            found += [f"{place(path)}:{number}: {what}" for what, pattern in patterns if pattern.search(line)]
    assert found == []


def references() -> Iterator[tuple[str, Path, int]]:
    """Yield (name, file, line) of every use of a name in the product and its benchmarks."""
    for path in python_files(*PRODUCT, "benchmarks"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Name):
                yield node.id, path, node.lineno
            elif isinstance(node, ast.Attribute):
                yield node.attr, path, node.lineno
            elif isinstance(node, ast.alias):
                yield node.name.rpartition(".")[2], path, 0
            elif isinstance(node, ast.keyword) and node.arg == "run" and isinstance(node.value, ast.Constant):
                yield node.value.value, path, 0  # the command line dispatches by name: set_defaults(run="refresh")


def public_definitions() -> Iterator[tuple[Path, ast.FunctionDef | ast.ClassDef]]:
    """Yield every public function, class and method of the package."""
    for path in python_files("include/tidegate"):
        classes = [node for node in tree(path).body if isinstance(node, ast.ClassDef)]
        for node in (*tree(path).body, *(member for owner in classes for member in owner.body)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield path, node


def test_every_public_name_is_used_or_says_why_it_stays() -> None:
    used: dict[str, list[tuple[Path, int]]] = {}
    for name, path, line in references():
        used.setdefault(name, []).append((path, line))
    unused = {
        f"{place(path)}: {node.name}"
        for path, node in public_definitions()
        if all(
            where == path and node.lineno <= line <= (node.end_lineno or 0) for where, line in used.get(node.name, [])
        )
    }
    assert unused == USED_FROM_OUTSIDE.keys()
