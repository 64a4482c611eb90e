"""The whole way of a person in a headless browser: log in, read the report, approve, then roll back from the form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.airflow.approvals import Site, open_sites, scripted_endpoint
from tests.airflow.conftest import RunningAirflow

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ROLLBACK = "rollback_release.seen"
SECONDS = 1000.0
"""In playwright's milliseconds."""

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no browser is installed at {CHROMIUM}"),
]


@dataclass
class Reader:
    """A person with a browser; pictures are numbered in the order in which they are taken."""

    page: Page
    url: str
    folder: Path
    taken: int = 0

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def log_in(self, user: str) -> None:
        self.page.locator("input[name=username]").fill(user)
        self.page.locator("input[name=password]").fill(user)
        self.page.get_by_role("button", name="Sign in").click()

    def keep(self, name: str) -> None:
        """Keep a picture of what is shown."""
        self.taken += 1
        self.page.screenshot(path=self.folder / f"{self.taken:02}-{name}.png")

    def choose(self, option: str) -> None:
        """Answer the form that is open."""
        self.page.get_by_test_id(f"hitl-option-{option}").click()
        expect(self.page.get_by_text("response successful")).to_be_visible()


@pytest.fixture
def site(airflow: RunningAirflow) -> Iterator[Site]:
    with scripted_endpoint() as endpoint:
        made = open_sites(airflow, endpoint, {"seen": {}})["seen"]
        made.measure()
        yield made


@pytest.fixture
def reader(airflow: RunningAirflow, tmp_path: Path) -> Iterator[Reader]:
    folder = Path(os.environ.get("TIDEGATE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(30 * SECONDS)
        expect.set_options(30 * SECONDS)
        yield Reader(page, airflow.api._url, folder)
        browser.close()


def look_at_the_champion(reader: Reader) -> None:
    """The page of the corpus in both colour modes."""
    page = reader.page
    reader.open("/plugin/tidegate/seen")
    expect(page.get_by_text("No approval is pending.")).to_be_visible()
    expect(page.locator(".page .main").first).to_have_text("v2")
    expect(page.frame_locator("iframe").get_by_text("Better than the champion").first).to_be_visible()
    reader.keep("champion")
    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    expect(page.locator("iframe")).to_have_attribute("src", re.compile(r"theme=dark$"))
    expect(page.frame_locator("iframe").get_by_text("Better than the champion").first).to_be_visible()
    reader.keep("champion-dark")
    page.evaluate("localStorage.setItem('theme', 'light')")
    page.reload()


def ask_for_a_rollback(site: Site, reader: Reader) -> tuple[str, list[str]]:
    """Trigger the rollback from the page and open its form; return (run, options)."""
    page = reader.page
    page.get_by_role("link", name="Roll back").click()
    page.get_by_test_id("trigger-dag-button").click()
    page.locator("#element_reason").fill("worse answers since Monday")
    reader.keep("reason")
    page.get_by_test_id("trigger-dag-submit").click()
    page.wait_for_url("**/runs/manual__*")
    (undo,) = site.airflow.api.runs(ROLLBACK)
    form = site.form(undo["dag_run_id"], "choose", dag_id=ROLLBACK)
    page.locator("table").get_by_role("link", name="choose").click()
    page.get_by_role("link", name="Required Action (1)").click()
    expect(page.get_by_text("Asked for because: worse answers since Monday")).to_be_visible()
    reader.keep("choice")
    return undo["dag_run_id"], form["options"]


def test_a_person_approves_what_the_report_shows_and_rolls_back(site: Site, reader: Reader) -> None:
    run_id, page = site.trigger(), reader.page
    site.form(run_id)
    old, new = site.serves, site.candidate()

    reader.open("/plugin/tidegate/seen")
    reader.log_in("ml_lead")
    expect(page.get_by_role("heading", name="1 pending approval")).to_be_visible()
    expect(page.frame_locator("iframe").get_by_text("Better than the champion").first).to_be_visible()
    reader.keep("waiting")
    page.get_by_role("link", name=f"Let release {new[:12]} of seen serve?").click()
    expect(page.get_by_text("Better than the champion: 100.0 % correct against 0.0 %")).to_be_visible()
    reader.keep("report")
    comment = page.locator("#element_comment")
    comment.scroll_into_view_if_needed()
    comment.fill("reads well")
    expect(page.get_by_test_id("hitl-option-Reject")).to_be_in_viewport()
    reader.keep("comment")
    reader.choose("Approve")
    assert site.wait(run_id).state == "success"
    assert site.serves == new
    entry = site.entries()[0]
    approval = site.approval(entry.approval)
    assert (approval.approver.id, approval.comment) == ("ml_lead", "reads well")

    look_at_the_champion(reader)
    undoing, options = ask_for_a_rollback(site, reader)
    reader.choose(options[0])
    assert site.airflow.wait(ROLLBACK, undoing).state == "success"
    assert site.serves == old
    rolled_back = site.events()[0]
    assert (rolled_back.kind, rolled_back.who.id, rolled_back.why) == (
        "rolled_back",
        "ml_lead",
        "worse answers since Monday",
    )
    reader.open("/plugin/tidegate/seen")
    expect(page.locator(".page .main").first).to_have_text("v3 (rollback)")
    expect(page.get_by_text("No approval is pending.")).to_be_visible()
    reader.keep("rolled-back")
