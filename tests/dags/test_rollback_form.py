"""What each answer to the form of ``rollback_release`` hands on, by the operator itself in a process with Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OFFER = "v3 in place of v5: 0123456789ab, 41 documents"
KEEP = "Keep what serves"
LEAD = {"id": "7", "name": "ml_lead"}

SCRIPT = """
import datetime, json, sys
from tidegate.orchestration.rollback_release import ChooseRelease

choose = ChooseRelease(task_id="choose", corpus="handbook")
now = datetime.datetime.now(datetime.UTC)
for option, user in json.loads(sys.argv[1]):
    event = {"chosen_options": [option], "params_input": {}, "responded_at": now, "responded_by_user": user}
    try:
        print(json.dumps(choose.execute_complete({}, event)))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def handed_on(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    answers = [(OFFER, LEAD), (KEEP, LEAD), (KEEP, None), (OFFER, None), ("v3", LEAD)]
    folder: Path = tmp_path_factory.mktemp("form")
    environment = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(answers)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "null", '"'))]


def test_an_offer_names_the_release_what_it_replaces_and_who_chose_it(handed_on: list[Any]) -> None:
    assert handed_on[0] == {"release": "v3", "asked_on": 5, "who": LEAD}


def test_to_keep_what_serves_or_not_to_answer_hands_on_nothing(handed_on: list[Any]) -> None:
    assert handed_on[1:4] == [None, None, None]


def test_an_answer_that_was_not_offered_is_refused(handed_on: list[Any]) -> None:
    assert handed_on[4] == "['v3'] is none of the options that were shown"
