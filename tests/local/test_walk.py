"""``make run``: which corpus it means, how it refuses a mistake, and how it stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import refresh
from tests.fakes import HashEmbedder
from tests.local.conftest import COMPONENTS, FAKE, alive, processes, wait_for
from tidegate.core.config import CorpusConfig, find_corpus
from tidegate.core.home import corpora_folders
from tidegate.local import walk
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.store import open_store

WALK = (
    "import sys, tidegate.local.airflow as airflow\n"
    f"airflow._airflow, airflow._STOP_SECONDS = lambda: [sys.executable, {str(FAKE)!r}], 2\n"
    "from tidegate.local.walk import main\n"
    "raise SystemExit(main())\n"
)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "Team Pages"
    folder.mkdir()
    (folder / "one.md").write_text("# one\n\ntext\n")
    return folder


def run_as_a_dag(home: Path, config: CorpusConfig) -> None:
    """Refresh a corpus as Airflow's tasks do: by its file, from the store of the settings."""
    refresh(Workspace(config, open_store(".tidegate/store", base=home), home, HashEmbedder()))


def test_a_name_is_a_configured_corpus(home: Path) -> None:
    assert walk.choose_corpus(home, "docs") == find_corpus("docs", corpora_folders(home))
    assert not (home / ".tidegate").exists()


@pytest.mark.parametrize("written", ["{pages}", "{pages}/", "../Team Pages"])
def test_a_folder_becomes_a_corpus_with_a_file_of_its_own(written: str, home: Path, pages: Path) -> None:
    config = walk.choose_corpus(home, written.format(pages=pages))
    assert config == find_corpus("team-pages", corpora_folders(home))
    assert Path(config.source.path).resolve() == pages
    assert (config.refresh.schedule, config.promotion.policy) == (None, "auto")
    text = (home / ".tidegate" / "corpora" / "team-pages.yaml").read_text()
    assert set(yaml.safe_load(text)) == {"description", "source", "refresh"}


@pytest.mark.parametrize("again", ["{pages}", "../Team Pages", "{link}"])
def test_the_same_folder_is_the_same_corpus_the_next_time(again: str, home: Path, pages: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pages)
    first = walk.choose_corpus(home, str(pages))
    run_as_a_dag(home, first)
    second = walk.choose_corpus(home, again.format(pages=pages, link=tmp_path / "link"))
    assert second.corpus == first.corpus
    assert sorted(path.name for path in (home / ".tidegate" / "corpora").iterdir()) == ["team-pages.yaml"]


def test_the_folder_of_a_configured_corpus_is_that_corpus_with_its_own_file(home: Path, pages: Path) -> None:
    file = home / "include" / "corpora" / "board.yaml"
    file.write_text(f"source:\n  path: {pages}\npromotion:\n  policy: approve\n")
    config = walk.choose_corpus(home, str(pages))
    assert (config.corpus, config.promotion.policy) == ("board", "approve")
    assert not (home / ".tidegate" / "corpora").exists()


def test_a_folder_does_not_replace_the_configured_corpus_of_its_name(home: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    made = walk.choose_corpus(home, str(tmp_path / "docs"))
    assert made.source.path == str(tmp_path / "docs")
    assert find_corpus("docs", corpora_folders(home)).source.path == "pages"


def test_a_configured_name_wins_over_a_folder_beside_it_as_on_the_command_line(home: Path) -> None:
    (home / "docs").mkdir()
    assert walk.choose_corpus(home, "docs").source.path == "pages"


def test_the_store_is_found_by_its_name_among_the_variables(home: Path, pages: Path) -> None:
    settings = home / "airflow_settings.yaml"
    other = {"variable_name": "another", "variable_value": "ftp://is/no/store"}
    written = yaml.safe_load(settings.read_text())
    written["airflow"]["variables"].insert(0, other)
    settings.write_text(yaml.safe_dump(written))
    assert walk.choose_corpus(home, str(pages)).corpus == "team-pages"


@pytest.fixture
def make_run(
    home: Path, fake: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Call ``main`` in this process, for what must end before Airflow would start."""
    monkeypatch.setenv("FAKE_MIGRATION_FAILS", "1")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["walk", *arguments])
        return walk.main(), *capsys.readouterr()

    yield call
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("corpus", "named"),
    [
        ("dcos", ["'dcos'", "did you mean 'docs'"]),
        ("/no/where", ["/no/where is not a folder"]),
        ("{home}/airflow_settings.yaml", ["airflow_settings.yaml is not a folder"]),
        ("airflow_settings.yaml", ["'airflow_settings.yaml'"]),
        ("", ["CORPUS", "empty"]),
        ("a\nb/c", ["a\\nb/c"]),
    ],
)
def test_a_mistake_in_the_corpus_is_one_line_and_starts_nothing(
    corpus: str, named: list[str], make_run: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    code, out, err = make_run("--once", "--corpus", corpus.format(home=home))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("make run: ")
    assert [part for part in named if part not in err] == [], err
    assert not (home / ".tidegate").exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (None, ["airflow_settings.yaml", "No such file"]),
        ("airflow: {variables: []}\n", ["airflow_settings.yaml", "tidegate_store"]),
        ("airflow: {variables: [{variable_name: tidegate_store, variable_value: 'ftp://x/y'}]}\n", ["'ftp://x/y'"]),
    ],
)
def test_a_mistake_in_the_airflow_settings_is_one_line(
    settings: str | None, named: list[str], make_run: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    (home / "airflow_settings.yaml").unlink()
    if settings:
        (home / "airflow_settings.yaml").write_text(settings)
    code, out, err = make_run("--once", "--corpus", "docs")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert [part for part in named if part not in err] == [], err


class Started:
    """``make run`` as a process, with stand-ins for Airflow's."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.state = home / ".tidegate" / "airflow"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WALK, "--corpus", "docs", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def known(self) -> list[int]:
        """The processes that have been started so far, each followed by its child."""
        return [int(pid) for path in self.state.glob("*.pids") for pid in path.read_text().split()]


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Started]]:
    """Start ``make run``; whatever is left of it is killed after the test."""
    runs: list[Started] = []

    def call(*arguments: str, **environment: str) -> Started:
        runs.append(Started(home, *arguments, **environment))
        return runs[-1]

    yield call
    for run in runs:
        run.process.kill()
        run.finish()
    for pid in alive([pid for run in runs[:1] for pid in run.known()]):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "arguments", "code"),
    [
        (signal.SIGINT, [], 0),
        (signal.SIGINT, ["--once"], 130),
        (signal.SIGTERM, ["--once"], 130),
        (signal.SIGHUP, [], 0),
    ],
)
def test_a_signal_stops_everything_that_was_started(
    number: signal.Signals, arguments: list[str], code: int, start: Callable[..., Started]
) -> None:
    started = start(*arguments)
    pids = processes(started.state)
    started.process.send_signal(number)
    returned, out, err = started.finish()
    assert (returned, err) == (code, "")
    assert out.startswith("  ▸ airflow      0.0 s  starting\n")
    assert out.endswith("\nstopped\n")
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die
    assert not (started.state / "running.pid").exists()


def test_a_second_ctrl_c_does_not_leave_anything_behind(start: Callable[..., Started]) -> None:
    started = start(FAKE_STUBBORN="api-server")
    pids = processes(started.state)
    started.process.send_signal(signal.SIGINT)
    wait_for(lambda: alive(pids) == pids[:2])
    started.process.send_signal(signal.SIGINT)
    returned, _, err = started.finish()
    assert (returned, err) == (0, "")
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die


def test_components_end_with_a_run_that_is_killed(start: Callable[..., Started]) -> None:
    started = start()
    components = processes(started.state)[::2]
    started.process.kill()
    wait_for(lambda: alive(components) == [])


def test_a_component_that_ends_fails_the_run_with_its_last_words(start: Callable[..., Started]) -> None:
    started = start("--once", FAKE_DIES="scheduler")
    returned, _, err = started.finish()
    assert returned == 1
    assert "FAILED  local_airflow_failed" in err.splitlines()
    assert "airflow scheduler ended with 3" in err
    assert "last words" in err.splitlines()
    assert "Traceback" not in err
    assert alive(started.known()) == []


def test_a_second_run_is_refused_and_the_first_goes_on(start: Callable[..., Started]) -> None:
    first = start()
    pids = processes(first.state)
    returned, _, err = start("--once").finish()
    assert returned == 1
    assert f"runs already (process {first.process.pid})" in err
    assert "Ctrl-C" in err
    assert alive(pids) == pids
    assert len(pids) == 2 * len(COMPONENTS)
    first.process.send_signal(signal.SIGTERM)
    assert first.finish()[0] == 0
