"""The Tidegate page on a real Airflow: who may read which route, and what is behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.airflow.conftest import RunningAirflow
from tests.conftest import ROOT, make_workspace
from tests.pipelines.releases import index, promote, release
from tidegate.core import keys
from tidegate.registry.store import open_store

pytestmark = pytest.mark.airflow

KEY = "7" * 64
DAG = "promote_release.quay"
REPORT = f"/tidegate/corpora/{DAG}/evaluations/{KEY}/report.html"
ROUTES = {
    "/page.js": "/tidegate/page.js",
    "/corpora": "/tidegate/corpora",
    "/corpora/{dag_id}": f"/tidegate/corpora/{DAG}",
    "/corpora/{dag_id}/evaluations/{evaluation}/report.html": REPORT,
    "/data-docs/{dag_id}/{run_id}/{page:path}": "/tidegate/data-docs/validate_qa.quay/manual/index.html",
}
PENDING = (
    "dag_id_prefix_pattern=promote_release.&state=awaiting_input&response_received=false&order_by=-created_at&limit=50"
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def token_of(airflow: RunningAirflow, role: str | None) -> str:
    """Return a session's token as Airflow would have made it for a user of a role (HS512, its own secret)."""
    head, body, _ = airflow.api._token.split(".")
    assert json.loads(_decoded(head))["alg"] == "HS512"
    claims = {**json.loads(_decoded(body)), "sub": "someone", "role": role}
    signed = f"{head}.{_encoded(json.dumps(claims).encode())}"
    secret = (airflow.folder / "home" / "jwt.secret").read_bytes()
    return f"{signed}.{_encoded(hmac.new(secret, signed.encode(), hashlib.sha512).digest())}"


def get(airflow: RunningAirflow, path: str, token: str | None) -> Answer:
    """Ask as a browser does: with the session's cookie, or without one."""
    headers = {"Cookie": f"_token={token}"} if token else {}
    try:
        with urlopen(Request(airflow.api._url + path, headers=headers), timeout=30) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
    except HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read().decode())


@pytest.fixture(scope="module")
def quay(airflow: RunningAirflow) -> RunningAirflow:
    """A corpus that serves an evaluated release, and one whose champion's head is damaged."""
    store = open_store(airflow.store, base=airflow.folder)
    for corpus in ("quay", "wreck"):
        folder = airflow.folder / "documents" / corpus
        folder.mkdir(parents=True)
        (folder / "gates.md").write_text("# Gates\n\nThe quay gate opens at six.\n")
        airflow.write_corpus(corpus, source={"path": str(folder)})
        workspace = make_workspace(folder, store, corpus=corpus)
        snapshot = index(workspace)
        promote(workspace, release(workspace, snapshot))
        promote(workspace, release(workspace, snapshot, KEY), approval="a" * 64)
    store.put(keys.channel_head("wreck", "champion"), b"damaged")
    return airflow


def test_every_route_refuses_whoever_is_not_logged_in(quay: RunningAirflow) -> None:
    routes = ROOT / "include" / "tidegate" / "orchestration" / "page_routes.py"
    assert set(re.findall(r'@_routes\.\w+\("([^"]+)"', routes.read_text())) == ROUTES.keys()
    for path in (*ROUTES.values(), "/tidegate/", "/tidegate/openapi.json", "/tidegate/docs"):
        answer = get(quay, path, None)
        assert answer.status in {401, 404}, path
        assert answer.status == 401 or path not in ROUTES.values(), path
        assert "quay" not in answer.text, path
    assert get(quay, "/tidegate/corpora", "not a token").status == 403


def test_a_user_who_may_not_read_the_dag_sees_nothing_of_its_corpus(quay: RunningAirflow) -> None:
    token = token_of(quay, None)
    for path in (ROUTES["/corpora/{dag_id}"], REPORT, ROUTES["/data-docs/{dag_id}/{run_id}/{page:path}"]):
        assert get(quay, path, token).status == 403
    listed = get(quay, "/tidegate/corpora", token)
    assert (listed.status, "No corpus that you may read." in listed.text, "quay" in listed.text) == (200, True, False)


def test_a_viewer_reads_the_list_the_page_and_the_report(quay: RunningAirflow) -> None:
    token = token_of(quay, "viewer")
    listed = get(quay, "/tidegate/corpora", token)
    assert '<a href="plugin/tidegate/quay">quay</a>' in listed.text
    shown = get(quay, f"/tidegate/corpora/{DAG}?theme=dark", token)
    assert '<p class="main">v2</p>' in shown.text
    assert "<polyline" in shown.text
    assert f'<iframe src="{REPORT[1:]}?theme=dark"' in shown.text
    assert shown.headers["cache-control"] == "no-store"
    report = get(quay, REPORT, token)
    assert (report.status, report.text) == (200, "<style></style><script>1</script>")
    policy = report.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert get(quay, f"/api/v2/dags/~/dagRuns/~/hitlDetails?{PENDING}", token).status == 200


def test_a_damaged_store_object_is_told_and_never_an_error(quay: RunningAirflow) -> None:
    token = token_of(quay, "viewer")
    shown = get(quay, "/tidegate/corpora/promote_release.wreck", token)
    assert shown.status == 200
    assert "wreck/channels/champion/HEAD.json is not a valid ChannelHead" in shown.text
    assert "not readable in part" in get(quay, "/tidegate/corpora", token).text


@pytest.mark.parametrize(
    "path",
    [
        "/tidegate/corpora/refresh_index.quay",
        "/tidegate/corpora/promote_release.nothing",
        "/tidegate/corpora/promote_release...",
        REPORT.replace(KEY, "8" * 64),
        REPORT.replace(KEY, "..%2F..%2Fquay"),
        REPORT.replace(KEY, "HEAD"),
    ],
)
def test_what_is_not_a_page_of_a_corpus_is_not_found(quay: RunningAirflow, path: str) -> None:
    assert get(quay, path, token_of(quay, "admin")).status == 404


def test_airflow_offers_the_page_in_its_navigation_and_serves_its_module(quay: RunningAirflow) -> None:
    token = token_of(quay, "viewer")
    plugins = json.loads(get(quay, "/api/v2/plugins", token).text)["plugins"]
    (app,) = next(plugin["react_apps"] for plugin in plugins if plugin["name"] == "tidegate")
    assert (app["name"], app["destination"], app["url_route"]) == ("Tidegate", "nav", "tidegate")
    module = get(quay, f"/{app['bundle_url']}", token)
    assert (module.status, module.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "globalThis.AirflowPlugin = Page;" in module.text
