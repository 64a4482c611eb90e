"""Stands in for the ``airflow`` program: components that wait, die or will not stop, each with a child of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

home, component = Path(os.environ["AIRFLOW_HOME"]), sys.argv[1]
if component == "db":
    with (home / "migrations").open("a") as migrations:
        migrations.write("one\n")
    sys.exit("no such table" if os.environ.get("FAKE_MIGRATION_FAILS") else 0)
if component == os.environ.get("FAKE_DIES"):
    print("first words", "last words", sep="\n", flush=True)
    sys.exit(3)
if component == os.environ.get("FAKE_STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(home / f"{component}.scratch").write_text(f"{os.getpid()} {child.pid}")
(home / f"{component}.scratch").rename(home / f"{component}.pids")
time.sleep(60)
