"""Credentials and personal data: what is found, what is not, and that a finding never holds the value.

The credentials are put together from parts, so that no scanner takes this file for a leak.
"""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tidegate.qa import sensitive
from tidegate.qa.sensitive import find_personal_data, find_secret

DRAWN = "q7Zt2Xw9Lm4Kc8Vb1Nf6Rd3Hs5Jg0Pyw7T2aKq9ZxW4mB8vLe3Rj6Uc1Yo5Sd0HnGfEi7Qu2Xp"
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


TOKENS = {
    "AKIA" + "Q7ZT2XW9LM4KC8VB": "AWS Access Key 'AKIA…' (20 characters)",
    "AKIA" + "IOSFODNN7EXAMPLE": "AWS Access Key 'AKIA…' (20 characters)",
    f"aws_secret_key = '{DRAWN[:40]}'": f"AWS Access Key '{DRAWN[:4]}…' (40 characters)",
    "ghp" + "_" + DRAWN[:36]: "GitHub Token 'ghp_…' (40 characters)",
    "github" + "_pat_" + DRAWN[:22] + "_" + DRAWN[:59]: "GitHub Fine-Grained Token 'gith…' (93 characters)",
    "glpat" + "-" + DRAWN[:20]: "GitLab Token 'glpa…' (26 characters)",
    "xoxb" + "-1234567890-0987654321-" + DRAWN[:24]: "Slack Token 'xoxb…' (51 characters)",
    "https://hooks.slack." + "com/services/T02A9QXKZ/B07M3RTLP/" + DRAWN[:24]: "Slack Token 'http…' (77 characters)",
    "sk" + "_live_" + DRAWN[:24]: "Stripe Access Key 'sk_l…' (32 characters)",
    "rk" + "_live_" + DRAWN[:24]: "Stripe Access Key 'rk_l…' (32 characters)",
    "sk-" + DRAWN[:20] + "T3Blbk" + "FJ" + DRAWN[20:40]: "OpenAI Token 'sk-q…' (51 characters)",
    "sk-" + "ant-api03-" + DRAWN[:40]: "API Key 'sk-a…' (53 characters)",
    "npm" + "_" + DRAWN[:36]: "NPM Access Token 'npm_…' (40 characters)",
    "//npm.example.com/:_authToken=npm" + "_" + DRAWN[:36]: "NPM tokens 'npm_…' (40 characters)",
    "py" + "pi-AgEIcHlwaS5vcmc" + DRAWN: f"PyPI Token 'pypi…' ({20 + len(DRAWN)} characters)",
    "SG." + DRAWN[:22] + "." + DRAWN[:43]: "SendGrid API Key 'SG.q…' (69 characters)",
    "AC" + HEX[:32]: "Twilio API Key 'AC9f…' (34 characters)",
    "AccountKey=" + (DRAWN + DRAWN)[:86] + "==": "Azure Storage Account access key 'Acco…' (99 characters)",
    "AIza" + DRAWN[:35]: "Google API Key 'AIza…' (39 characters)",
    HEX[:32] + "-us12": "Mailchimp Access Key '9f86…' (37 characters)",
    "12345678:" + DRAWN[:35]: "Telegram Bot Token '1234…' (44 characters)",
    "-----BEGIN RSA PRIVATE" + " KEY-----": "Private Key 'BEGI…' (21 characters)",
    "-----BEGIN ENCRYPTED PRIVATE" + " KEY-----": "Encrypted Private Key 'BEGI…' (27 characters)",
    part({"alg": "HS256"}) + "." + part({"sub": "42"}) + "." + DRAWN[:43]: "JSON Web Token 'eyJh…' (42 characters)",
    "postgres://tide:hunter" + "2horse@db.example.com/app": "Basic Auth Credentials 'hu…' (12 characters)",
    "https://tide:sword" + "fish@example.com": "Basic Auth Credentials 's…' (9 characters)",
}

ASSIGNED = {
    'password = "hunter2horse"': "Password 'hu…' (12 characters)",
    "DB_PASSWORD=hunter2horse": "Password 'hu…' (12 characters)",
    "**Password:** hunter2horse.": "Password 'hu…' (12 characters)",
    r"{\"password\": \"hunter2horse\"}": "Password 'hu…' (12 characters)",
    "mysql --user root --password hunter2horse": "Password 'hu…' (12 characters)",
    f"api_key: {HEX[:16]}": "Key or Token '9f8…' (16 characters)",
    "token: ab12cd34efgh56kl": "Key or Token 'ab1…' (16 characters)",
    f"api_key: {HEX}": "Key or Token '9f86…' (64 characters)",
    f'{{"clientSecret": "{DRAWN[:40]}"}}': f"Key or Token '{DRAWN[:4]}…' (40 characters)",
    f"curl -H 'x-api-key: {DRAWN[:32]}' https://example.com": f"Key or Token '{DRAWN[:4]}…' (32 characters)",
    f"Authorization: Bearer {DRAWN[:32]}": f"Key or Token '{DRAWN[:4]}…' (32 characters)",
    f"tool --access-token {DRAWN[:32]}": f"Key or Token '{DRAWN[:4]}…' (32 characters)",
    f"https://example.com/?token={DRAWN[:32]}&page=2": f"Key or Token '{DRAWN[:4]}…' (32 characters)",
}

NO_SECRETS = [
    "password: {{password}}", "password=<password>", "token: <token>", "api_key=$TOKEN", "password=${DB_PASSWORD_2}",
    "--password {{p4ssw0rd!}}", "API_KEY=YOUR_API_KEY", 'api_key="your-api-key-here"', "OPENAI_API_KEY=sk-...",
    "secret: xxxxxxxx1", "password: changeme1", "password = 'my-password-123'", "password=********",
    'password: "string"', "token: 12345678901234567890", "ghp" + "_" + "x" * 36, "AKIA" + "X" * 16,
    "ASIA" + "PACIFICHEADQUARTERS", "https://hooks.slack." + "com/services/T00000000/B00000000/" + "X" * 24,
    "https://user:password@example.com", "postgres://airflow:airflow@db/airflow", "ftp://{{user}}:{{password}}@host",
    "mysql://scott:tiger@db", "http://proxy.example.com:8080/@scope", "password = get_password('db1')",
    "password: config.db1.password", "token = os.environ['API_TOKEN_1']", "secret: prod/db/postgres15",
    "secret_name: my-app-tls-2024", "token: /run/secrets/token1-2024-05", "max_tokens: 1024", "nextToken: " + HEX,
    f"commit {HEX[:40]}", f"image@sha256:{HEX}", "password_file=/run/secrets/db1",
    "The password: at least 8 characters", "AccountKey=<key>", "private_key: Ed25519PrivateKey",
]  # fmt: skip

PERSONAL = {
    "Ask jane.doe@acme.com.": "e-mail address 'j…@…'",
    "<Jane+lists@mail.acme.co.uk>": "e-mail address 'J…@…'",
    "mailto:jd@acme.io": "e-mail address 'j…@…'",
    "Call +44 20 7946 0958.": "telephone number (12 digits)",
    "+1 (415) 555-2671": "telephone number (11 digits)",
    "tel:+351912345678": "telephone number (12 digits)",
    "Call (555) 123-4567": "telephone number (10 digits)",
    "555-123-4567": "telephone number (10 digits)",
    "Phone: 020 7946 0958": "telephone number (11 digits)",
    "card 4539 1488 0343 6467, 12/29": "payment card number (16 digits)",
    "5425233430109903": "payment card number (16 digits)",
    "3742-454554-00126": "payment card number (15 digits)",
    "IBAN DE89 3704 0044 0532 0130 00 AND more": "IBAN 'DE…'",
    "GB82WEST12345698765432": "IBAN 'GB…'",
    "PT50 0002 0123 1234 5678 9015 4": "IBAN 'PT…'",
    "SSN 123-45-6789": "US social security number",
}

NOT_PERSONAL = [
    "jane@example.com", "jane@mail.example.org", "jane@shop.example", "x@a.test", "a@b.invalid", "root@localhost",
    "user@host", "ssh {{user}}@{{host}}", "git@github.com:acme/app.git", "git clone git@github.com",
    "noreply@acme.com", "no-reply@acme.com", "support@acme.com", "it-support@acme.com", "sales.emea@acme.com",
    "scp jane@server.acme.com:/tmp/a .", "https://jane@acme.com/x", "ssh://tide:x@acme.com",
    "1+jane@users.noreply.github.com", "icon@2x.png", "systemctl start getty@tty1.service", "react@18.2.0",
    "image@sha256:0a1b", "HEAD@{1}", "@app.route", "+1-555-555-0100", "2026-08-22T10:00:00+01:00", "1.2.3+20240101",
    "grew by +12 000 000 rows", "+1111111111", "+1980-02-29 01:02:03", "-2147483648 to +2147483647",
    "10.0.0.1:8080", "1718000000000", "7359146802730005", "52BB 4539 1488 0343 6467", "4539 1488 0343 6467 52BB",
    "find -size +1000000000c", "(503) retries", "E-1206", "ISBN 978-3-16-148410-0", "GWY-1901 (503): spillway",
    "2024-05-06 12:00", "4242424242424242", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005",
    "4539 1488 0343 6468", "9999 1000 0000 0010", "5100 5101 5102 5103 5104 5105 5106", "1234567890123456",
    "DE89 3704 0044 0532 0130 01", "GB82 WEST 1234", "AB12 3456 7890 1234 5678", "000-45-6789", "666-45-6789",
    "900-45-6789", "123-00-6789", "123-45-0000", "2024-05-0612", "1-123-45-6789",
]  # fmt: skip


@pytest.mark.parametrize(("text", "finding"), {**TOKENS, **ASSIGNED}.items())
def test_a_credential_is_found_wherever_it_stands(text: str, finding: str) -> None:
    assert find_secret(text) == finding
    assert find_secret(f"How do I log in?\nUse this: {text}\nThen go on.") == finding


@pytest.mark.parametrize("text", NO_SECRETS)
def test_a_placeholder_a_reference_and_a_name_are_no_credentials(text: str) -> None:
    assert find_secret(text) is None


@pytest.mark.parametrize(("text", "finding"), PERSONAL.items())
def test_personal_data_are_found_and_not_shown(text: str, finding: str) -> None:
    assert find_personal_data(f"What is it?\n{text}\nThat is all.") == finding


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_roles_reserved_domains_test_cards_ids_and_dates_are_nobodys(text: str) -> None:
    assert find_personal_data(text) is None


def test_no_row_of_the_demo_is_flagged() -> None:
    rows = [json.loads(line) for line in (ROOT / "include/demo/qa.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [text for row in rows for text in (row["question"], row["answer"] or "", *quotes(row))]
    assert len(texts) > 1500
    assert [text for text in texts if find_secret(text) or find_personal_data(text)] == []


def quotes(row: dict) -> list[str]:
    return [item.get("quote") or "" for item in row["evidence"]]


FRAGMENTS = [*TOKENS, *ASSIGNED, *NO_SECRETS, " ", "\n", "=", ":", "'", "ſk-", "K", "İ", "a" * 3000]


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=6), st.data())
def test_no_finding_is_lost_for_want_of_a_needle(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    start = data.draw(st.integers(0, len(text)))
    text = text[start : data.draw(st.integers(start, len(text)))]
    assert find_secret(text) == sensitive._first_finding(sensitive._detectors(), text)


@pytest.mark.parametrize("before", [0, 2040, 4090, 6150, 100_000])
def test_a_credential_is_found_anywhere_in_a_long_line(before: int) -> None:
    text = "a " * (before // 2) + "ghp" + "_" + DRAWN[:36] + " b" * 3000
    assert find_secret(text) == "GitHub Token 'ghp_…' (40 characters)"
