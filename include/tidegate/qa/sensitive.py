"""Credentials and personal data in the texts of a row, by patterns of high precision: each finding fails its row.

Credentials are found in two ways. Tokens known by their own form are left to plugins of ``detect-secrets``
(:data:`_PLUGINS`), and to :data:`_MORE_TOKENS` where the library lacks the form. A value given to a password, key,
secret or token (``api_key: …``, ``--password …``, ``Bearer …``) is judged here: a password holds a letter and a
digit, any other value looks drawn at random.

Left out are the library's entropy plugins (they take every quoted word), its keyword plugin (it takes
``"your-api-key-here"``), its plugin for public IP addresses (no credentials), and one whose form fits words in
capitals. Not found are passwords without a digit, passphrases with spaces, test keys (``sk_test_…``) and placeholders:
``{{…}}``, ``<…>``, ``$TOKEN``, ``YOUR_API_KEY``, ``xxxxxx``. A vendor's documented example key has the form of a real
one, and is found.

Personal data are e-mail addresses, telephone numbers, payment cards, IBANs and US social security numbers. Role
addresses (``support@…``), logins (``git@…``), reserved domains (RFC 2606) and published test cards are nobody's. Names,
postal addresses, and national telephone numbers that have neither the American form nor a label are left out: too much
else looks like them. So are card numbers of 13 digits: article numbers look like them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from detect_secrets.plugins.base import RegexBasedDetector

_PIECE = 4096
_OVERLAP = 2048
"""A longer line is read in overlapping pieces: some of the library's patterns are quadratic in the length of a line."""

_LOGIN = "Basic Auth Credentials"
_SELF_JUDGED = {"JSON Web Token", "Private Key"}
"""Plugins whose verdict stands as it is."""
_PREFIX_GROUPS = {"GitHub Token", "GitLab Token"}
"""Plugins whose group is the token's prefix; another plugin's group is the token itself."""

_PLUGINS: dict[str, tuple[str, ...]] = {
    "AWS Access Key": ("a3t", "abia", "acca", "akia", "asia", "aws"),
    "Azure Storage Account access key": ("accountkey=",),
    _LOGIN: ("://",),
    "Cloudant Credentials": ("cl",),
    "Discord Bot Token": (".",),
    "GitHub Token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "GitLab Token": ("gl", "gr1348941"),
    "IBM COS HMAC Credentials": ("secret",),
    "IBM Cloud IAM Key": ("key", "pwd", "pass", "token"),
    "JSON Web Token": ("eyj",),
    "Mailchimp Access Key": ("-us",),
    "NPM tokens": ("_authtoken=",),
    "OpenAI Token": ("t3blbkfj",),
    "Private Key": ("private key", "putty-user-key-file-2"),
    "PyPI Token": ("pypi-",),
    "SendGrid API Key": ("sg.",),
    "Slack Token": ("xox", "hooks.slack.com"),
    "SoftLayer Credentials": ("sl", "softlayer"),
    "Square OAuth Secret": ("sq0csp-",),
    "Stripe Access Key": ("k_live_",),
    "Telegram Bot Token": (":",),
    "Twilio API Key": ("ac", "sk"),
}
"""Secret type of each plugin, and texts of which one stands, case aside, in whatever the plugin finds."""

_MORE_TOKENS: dict[str, tuple[str, str]] = {
    "API Key": ("sk-", r"(?<![\w-])sk-(?:ant|or|proj|svcacct|admin)-[A-Za-z0-9_-]{20,}"),
    "Encrypted Private Key": ("encrypted private key", r"BEGIN ENCRYPTED PRIVATE KEY"),
    "GitHub Fine-Grained Token": ("github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{36,}"),
    "Google API Key": ("aiza", r"\bAIza[A-Za-z0-9_-]{35}"),
    "Hugging Face Token": ("hf_", r"\bhf_[A-Za-z0-9]{34}"),
    "NPM Access Token": ("npm_", r"\bnpm_[A-Za-z0-9]{36}"),
    "Slack App Token": ("xapp-", r"\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]{32,}"),
}
"""Forms that the library lacks: kind, a text that stands in whatever is found, and the pattern."""

_PUBLIC = ("change", "continuation", "key", "next", "page", "request")
"""Words before "token" that name what is no credential, such as the token of a next page."""
_PASSWORDS = r"pass(?:word|wd|phrase|code)|pwd|(?:admin|database|db|root|user)[_-]?pass"
_KEYS = (
    r"secret|(?:access|account|api|auth|client|encryption|private|secret|service|signing|storage)[ _-]?key|"
    + "".join(rf"(?<!{word})(?<!{word}[_-])" for word in _PUBLIC)
    + "token"
)
_EQUALS = r"""["'`\\\])*]{0,3}\s{0,4}(?::=|=>|={1,3}|:)\*{0,2}\s{0,4}"""
_VALUE = (
    r"""\\{0,2}(?:(?P<quote>["'`])(?P<quoted>(?:(?!(?P=quote))[^\s\\]){6,256})\\{0,2}(?P=quote)"""
    r"""|(?P<bare>[^\s"'`<>{}()\[\],;&|\\…]{6,256}+)(?![<{(\[]))"""
)

_FILLED = re.compile(r"([A-Za-z0-9*.])\1{5}|\.\.\.|\*\*\*|^\$|\$[({]|%[({s]|[{<>}]")
"""What only a placeholder holds: one character six times, an ellipsis, a variable."""
_PLACEHOLDER = re.compile(
    r"(?:passwords?|passwd|passphrase|passcode|pass|pwd|pw|credentials?|creds?|secrets?|tokens?|keys?|api|auth|access"
    r"|client|service|account|admin|root|users?|database|db|server|host|app|my|your|the|some|this|new|old|strings?"
    r"|values?|name|here|goes|examples?|samples?|dummy|fake|demo|tests?|temp|foo|bar|baz|abcdefgh|abcdef|abcd|abc|xyz"
    r"|changeme|change|me|replace|with|insert|enter|placeholder|redacted|hidden|masked|todo|tbd|id|is|a|x)++",
    re.IGNORECASE,
)
"""The letters of a value that stands for another."""
_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[~.]{0,2}/.*|\w+://.*|arn:.*", re.DOTALL)
"""A value that stands elsewhere: an attribute, a path, a URL."""
_SWITCH = re.compile(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])|[a-z](?=[A-Z])")
_MIN_RANDOM = 16

_ROLE = re.compile(
    r"(?:abuse|account(?:s|ing)|admin(?:istrator)?|alerts|api|billing|bot|bounces?|bugs|careers|centos|compliance|contact"
    r"|core|customer|data|deploy|devops|do-?not-?reply|ec2-user|e?mail|enquiries|events|feedback|finance|git|hello"
    r"|help(?:desk)?|hg|hostmaster|hr|info|inquiries|jobs|legal|list|mailer|marketing|media|name|news(?:letter)?|no-?reply"
    r"|notifications?|office|ops|oracle|orders|payments|pi|postgres|postmaster|press|privacy|recruiting|root|sales"
    r"|security|services?|sre|staff|subscribe|support|svn|team|test|ubuntu|unsubscribe|user(?:name)?|vagrant|webmaster"
    r"|you|your|dev$)(?![a-z])|.*(?:desk|help|list|safety|security|services?|support|team"
    r"|-(?:announce|conduct|dev|requests|users))$"
)
"""The part before the sign, of an address that belongs to a role, an account or nobody."""
_NOBODY = re.compile(
    r"(?:.*\.)?(?:example|invalid|test|localhost|local|localdomain|internal|lan|(?:my|your)?-?domain|lists|googlegroups)"
    r"(?:\..*)?|.*noreply.*|.*\.gserviceaccount\.com|.*\.(?:service|socket|timer|mount|target|slice|scope|path|device|svc"
    r"|png|jpe?g|gif|svg|webp|js|ts|rb|json|ya?ml|xml|html|txt|conf|cfg|log)"
)
"""Domains of RFC 2606, private networks and lists; and what is no domain: ``icon@2x.png``, ``getty@tty1.service``."""
_EMAIL = re.compile(
    r"(?<![\w.%+/@-])(?P<local>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63})"
    r"@(?P<domain>(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![\w@-]|\.\w|:[\w/~.])"
)
_PHONES = (
    re.compile(r"(?<![\w+.)\]}*/^-])\+(?!214|[0-9]{4}-[0-9]{2}-)[1-9](?:[ .()/-]{0,2}[0-9]){7,14}(?!\w|[.-][0-9])"),
    re.compile(r"(?<![\w(+.-])\([2-9][0-9]{2}\) ?[0-9]{3}[ .-][0-9]{4}(?![\w-]|\.[0-9])"),
    re.compile(r"(?<![\w+./-])[2-9][0-9]{2}-[0-9]{3}-[0-9]{4}(?![\w/-]|\.[0-9])"),
    re.compile(
        r"\b(?:tel|telephone|phone|mobile|cell|fax)\b[ .:#]{0,3}(?:(?:number|no)\b[ .:#]{0,3})?"
        r"\(?0[0-9](?:[ ./()-]{0,2}[0-9]){5,12}(?!\w|[.-][0-9])",
        re.IGNORECASE,
    ),
)
"""International; American, two ways; national, after a label. +214 is no country: +2147483647 is a number."""
_CARD = re.compile(
    r"(?<![\w.+-])(?<![0-9A-F]{4} )"
    r"(?:[0-9]{4}(?P<gap>[ -]?)[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}(?:(?P=gap)[0-9]{3})?"
    r"|3[0-9]{3}(?P<space>[ -]?)[0-9]{6}(?P=space)[0-9]{4,5})(?![\w-]|\.[0-9]| [0-9A-F]{4}\b)"
)
_SCHEME = re.compile(
    r"4[0-9]{15}(?:[0-9]{3})?|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}(?:[0-9]{3})?|62[0-9]{14}(?:[0-9]{3})?"
)
"""Visa; Mastercard; American Express; Diners Club; JCB; Discover; UnionPay."""
_TEST_CARD = re.compile(
    r"400000[0-9]+|2223003122003222|30569309025904|3566002020360505|36227206271667|378282246310005|4012888888881881"
    r"|5200828282828210|6011000990139424|6011981111111113"
)
_IBAN = re.compile(r"(?<![\w-])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "NL"), 18),
    **dict.fromkeys(("AT", "EE", "LT", "LU", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "DE", "GB", "IE", "ME", "RS"), 22),
    **dict.fromkeys(("AE", "IL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN"), 24),
    **dict.fromkeys(("PT",), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "CY", "DO", "GE", "HU", "LB", "PL"), 28),
    **dict.fromkeys(("BR", "UA"), 29),
}
_SOCIAL_SECURITY = re.compile(r"(?<![\w.-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-]|\.[0-9])")


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of credential."""

    kind: str
    needles: tuple[str, ...]
    values: Callable[[str], Iterator[str]]
    """Yields the credentials in a line."""


def find_secret(text: str) -> str | None:
    """Return the kind and the masked value of a credential in ``text``, or None."""
    folded = text.casefold()
    return _first_finding((item for item in _detectors() if any(needle in folded for needle in item.needles)), text)


def find_personal_data(text: str) -> str | None:
    """Return the kind of personal data in ``text``, never the value itself, or None."""
    finders = (_addresses, _telephones, _cards, _accounts, _social_security)
    return next((finding for find in finders for finding in find(text)), None)


def _first_finding(detectors: Iterable[Detector], text: str) -> str | None:
    """Return what the first of the detectors finds, masked."""
    for detector in detectors:
        for line in text.splitlines():
            for start in range(0, max(1, len(line) - _OVERLAP), _PIECE - _OVERLAP):
                for value in detector.values(line[start : start + _PIECE]):
                    return _masked(detector.kind, value)
    return None


def _masked(kind: str, value: str) -> str:
    """Return a finding that shows at most four characters, and at most one in five."""
    return f"{kind} '{value[: min(4, len(value) // 5)]}…' ({len(value)} characters)"


@cache
def _detectors() -> tuple[Detector, ...]:
    """Return the library's detectors, those it lacks, and those of assignments."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins = cast("dict[str, type[RegexBasedDetector]]", get_mapping_from_secret_type_to_class())
    return (
        *(Detector(kind, needles, _by_plugin(kind, plugins[kind]())) for kind, needles in _PLUGINS.items()),
        *(Detector(kind, (needle,), _by_form(form)) for kind, (needle, form) in _MORE_TOKENS.items()),
        Detector("Password", ("pass", "pwd"), _by_name(_PASSWORDS, _is_password)),
        Detector("Key or Token", ("secret", "token", "key", "bearer"), _by_name(_KEYS, _is_random, r"\bBearer\s{1,4}")),
    )


def _by_plugin(kind: str, plugin: RegexBasedDetector) -> Callable[[str], Iterator[str]]:
    """Return what finds the values of a plugin that are no placeholders."""
    if kind in _SELF_JUDGED:
        return plugin.analyze_string

    def values(line: str) -> Iterator[str]:
        for match in (match for pattern in plugin.denylist for match in pattern.finditer(line)):
            value = match[0] if kind in _PREFIX_GROUPS else match[match.lastindex or 0]
            if _is_login(match[0]) if kind == _LOGIN else _is_token(value):
                yield value

    return values


def _by_form(form: str) -> Callable[[str], Iterator[str]]:
    """Return what finds the tokens of a form."""
    pattern = re.compile(form)
    return lambda line: (match[0] for match in pattern.finditer(line) if " " in match[0] or _is_token(match[0]))


def _by_name(name: str, accepts: Callable[[str], bool], instead: str = r"(?!)") -> Callable[[str], Iterator[str]]:
    """Return what finds the accepted values that are assigned to a name, or follow what stands ``instead`` of one."""
    named = rf"(?:{name})(?![A-Za-z0-9_-]){_EQUALS}|(?<![\w-])--[a-z-]{{0,30}}?(?:{name})\s{{1,4}}|{instead}"
    pattern = re.compile(rf"(?:{named}){_VALUE}", re.IGNORECASE)

    def values(line: str) -> Iterator[str]:
        found = (match["quoted"] or match["bare"].rstrip(".:!?*") for match in pattern.finditer(line))
        return filter(accepts, found)

    return values


def _is_token(value: str) -> bool:
    """Tell a token from words in capitals and from a filled-in form."""
    return not _FILLED.search(value) and any(map(str.isdigit, value))


def _is_login(url: str) -> bool:
    """Tell whether ``://user:password@`` holds a password."""
    user, _, password = url[len("://") : -1].partition(":")
    return len(password) > 5 and user != password and not _is_placeholder(password)


def _is_password(value: str) -> bool:
    """Tell a password from a word, a number, a reference or a placeholder."""
    mixed = len(value) >= 6 and re.search("[A-Za-z]", value) and re.search("[0-9]", value)
    return bool(mixed) and not _is_placeholder(value) and not _REFERENCE.fullmatch(value)


def _is_random(value: str) -> bool:
    """Tell a key from names and dates: in a part of it, the kind of character changes at least every fourth time."""
    if len(value) < _MIN_RANDOM or _FILLED.search(value) or _REFERENCE.fullmatch(value):
        return False
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", value) if len(part) >= 8 and re.search("[0-9]", part)]
    return any(4 * len(_SWITCH.findall(part)) >= len(part) for part in parts)


def _is_placeholder(value: str) -> bool:
    """Tell whether a value stands for another."""
    letters = re.sub("[^A-Za-z]+", "", value)
    return bool(_FILLED.search(value) or not letters or _PLACEHOLDER.fullmatch(letters))


def _addresses(text: str) -> Iterator[str]:
    for match in _EMAIL.finditer(text) if "@" in text else ():
        before = text[max(0, match.start() - 64) : match.start()]
        in_url = before.endswith(":") and "//" in before.split()[-1]
        nobody = _ROLE.match(match["local"].casefold()) or _NOBODY.fullmatch(match["domain"].casefold())
        if not in_url and not nobody:
            yield f"e-mail address '{match['local'][0]}…@…'"


def _telephones(text: str) -> Iterator[str]:
    for match in (match for pattern in _PHONES for match in pattern.finditer(text)):
        digits = re.sub("[^0-9]", "", match[0])
        if len(set(digits)) > 2 and not digits.endswith("000000") and "555555" not in digits:
            yield f"telephone number ({len(digits)} digits)"


def _cards(text: str) -> Iterator[str]:
    for match in _CARD.finditer(text):
        digits = re.sub("[^0-9]", "", match[0])
        invented = len(set(digits)) <= 4 or _TEST_CARD.fullmatch(digits)
        if _SCHEME.fullmatch(digits) and not invented and _passes_luhn(digits):
            yield f"payment card number ({len(digits)} digits)"


def _passes_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def _accounts(text: str) -> Iterator[str]:
    for match in _IBAN.finditer(text):
        compact = match[0].replace(" ", "")
        number = compact[: _IBAN_LENGTHS.get(compact[:2], 0)]
        if number and int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1:
            yield f"IBAN '{number[:2]}…'"


def _social_security(text: str) -> Iterator[str]:
    return ("US social security number" for _ in _SOCIAL_SECURITY.finditer(text))
