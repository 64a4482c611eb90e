"""A local vLLM as a process: started, watched and stopped, with a stand-in for its interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.local.conftest import alive, wait_for
from tidegate.core.errors import LocalVllmError
from tidegate.local.airflow import free_port
from tidegate.local.vllm import LocalVllm

STAND_IN = """#!{python}
import http.server, json, os, subprocess, sys
from pathlib import Path
options = dict(zip(sys.argv[1:], sys.argv[2:]))
said = {{name: value for name, value in os.environ.items() if name.startswith(("VLLM", "HF_HUB"))}}
Path({folder!r}, "environment.json").write_text(json.dumps(said))
if {dies}:
    print("first words", "last words", sep="\\n")
    sys.exit(3)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path({folder!r}, "scratch").write_text(f"{{os.getpid()}} {{child.pid}}")
Path({folder!r}, "scratch").rename(Path({folder!r}, "pids"))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" and not {ill} else 503)
        self.end_headers()

http.server.HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


def stand_in(folder: Path, *, dies: bool = False, ill: bool = False) -> LocalVllm:
    python = folder / "python"
    python.write_text(STAND_IN.format(python=sys.executable, folder=str(folder), dies=dies, ill=ill))
    python.chmod(0o700)
    return LocalVllm(python, folder / "smollm2", free_port(), folder / "logs" / "vllm.log")


def test_vllm_starts_and_stops_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-0123456789abcdef")
    with stand_in(tmp_path) as vllm:
        vllm.wait_until_healthy(60, lambda _: None)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert alive(pids) == pids
        vllm.require_running()
    wait_for(lambda: alive(pids) == [])  # what was killed may take a moment to die
    environment = (tmp_path / "environment.json").read_text()
    assert '"VLLM_HOST_IP": "127.0.0.1"' in environment
    assert "sk-" not in environment  # else the server would ask for it


def test_a_vllm_that_ends_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with stand_in(tmp_path, dies=True) as vllm, pytest.raises(LocalVllmError) as caught:
        vllm.wait_until_healthy(60, lambda _: None)
    log = tmp_path / "logs" / "vllm.log"
    assert caught.value.what == f"vLLM ended with 3; {log} ends:\nfirst words\nlast words"


def test_a_vllm_that_never_answers_is_given_up(tmp_path: Path) -> None:
    passed: list[float] = []
    with stand_in(tmp_path, ill=True) as vllm, pytest.raises(LocalVllmError) as caught:
        vllm.wait_until_healthy(1, passed.append)
    assert 0 <= passed[0] < passed[-1] <= 1
    assert caught.value.what == f"vLLM is not healthy after 1 s; its log is {tmp_path / 'logs' / 'vllm.log'}"


def test_without_its_environment_vllm_says_how_to_make_it(tmp_path: Path) -> None:
    missing = LocalVllm(tmp_path / "python", tmp_path, free_port(), tmp_path / "vllm.log")
    with pytest.raises(LocalVllmError) as caught, missing:
        pass
    assert caught.value.what == f"vLLM is not installed: {tmp_path / 'python'} does not exist"
    assert caught.value.next_action == "run 'make setup-serving'"
