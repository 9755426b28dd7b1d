"""Patterns of secrets and personal data: a table of regular expressions, each with a check of its match. Pure.

Both programs read it: redaction, before anything leaves the process, and the scorer that looks for secrets in answers.
Every pattern runs in linear time: each repeat has an upper bound, and no repeat contains another that could match the
same characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

Kind = Literal["key", "private_key", "card", "iban", "email", "phone"]


_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|credential|authorization|headers|(^|_)(key|token|dsn|url|proxy|username|sha256)$",
    re.I,
)


def is_secret_name(name: str) -> bool:
    """Whether the value of a config key of this name may be a secret, so that no message shows it."""
    return _SECRET_NAME.search(name) is not None


def luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B), in a number of 13 to 19 digits."""
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    total = sum(d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(digits))
    return 13 <= len(digits) <= 19 and total % 10 == 0 and len(set(digits)) > 1


def mod97(iban: str) -> bool:
    """Whether the two check digits are right (ISO 13616-1): the rotated number leaves 1 when divided by 97."""
    plain = iban.replace(" ", "")
    rotated = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int(rotated.translate(_LETTER_VALUES)) % 97 == 1


_LETTER_VALUES = {ord("A") + i: str(10 + i) for i in range(26)}


def _phone(number: str) -> bool:
    return 8 <= sum(c.isdigit() for c in number) <= 15


def _always(_: str) -> bool:
    return True


_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}"
    r"|glpat-[A-Za-z0-9_-]{20,64}"  # GitLab
    r"|sk-[A-Za-z0-9_-]{32,255}"  # OpenAI, Anthropic and others
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,128}"  # Stripe
    r"|AIza[A-Za-z0-9_-]{35}"  # Google
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}"  # Slack
    r"|hf_[A-Za-z0-9]{30,64}"  # Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{60,255}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,2000}"  # a JSON Web Token
    r")(?![A-Za-z0-9])",
    re.ASCII,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_CARD = re.compile(r"(?<![\w.+-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-]|\.\d)", re.ASCII)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.ASCII)
_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9_%+-][\w.%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?!\w)",
    re.ASCII,
)
_PHONE = re.compile(
    r"(?<![\w+.-])(?:\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,5}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|[2-9]\d{2}[.-]\d{3}[.-]\d{4})(?!\w|[.-]\d)",
    re.ASCII,
)
# kind → pattern, a substring without which the pattern cannot match (None: always search), the check of a match
KINDS: dict[Kind, tuple[re.Pattern[str], str | None, Callable[[str], bool]]] = {
    "key": (_KEY, None, _always),
    "private_key": (_PRIVATE_KEY, "PRIVATE KEY", _always),
    "card": (_CARD, None, luhn),
    "iban": (_IBAN, None, mod97),
    "email": (_EMAIL, "@", _always),
    "phone": (_PHONE, None, _phone),
}
