"""Secrets and personal numbers, taken out of a text *before* it is embedded or written.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (compliance of MemGovernance). What cannot be known
cannot leak: a vector of a text that held a card number remembers it, so redaction comes first. The labels of what was
found stay in ``Header.sensitivity``, which keeps the memory out of weights.

Patterns alone take dates and order numbers for phone and card numbers, so whatever has a check digit is checked: cards
by Luhn and the issuer's prefix and length, IBANs by country length and modulo 97 (ISO 13616), the Spanish DNI, the
French NIR, the Italian codice fiscale, the Brazilian CPF and the Chinese resident number by their own rules. Keys
without a known prefix must be named as such, or be long, mixed and of high entropy. What has no check digit (phones,
SSN, NINO) needs its written form or a word that introduces it.

This finds forms, not meanings: a name or an address stays.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lamina.cube.cube import MemCube
from lamina.cube.payload import TextPayload
from lamina.kernel.governing.checksums import chinese_id, codice_fiscale, cpf, dni, iban, luhn, nir, ssn
from lamina.text.turns import Messages

_BITS = 3.0  # entropy a character, of what is said to be a key: "changeme" has 2.75, words about 3 at most
_BITS_UNNAMED = 4.4  # of what nobody calls a key


@dataclass(frozen=True, slots=True)
class Found:
    """Characters ``[start, end)`` of the text hold something of kind ``label``."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """``text`` with each finding replaced by its label, such as ``[EMAIL]``; the kinds, sorted; the findings."""

    text: str
    labels: tuple[str, ...]
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    label: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True


def redact(text: str) -> Redacted:
    """Find and replace everything sensitive. Redacting the result again changes nothing."""
    found = tuple(_distinct(text))
    pieces, end = [], 0
    for one in found:
        pieces += [text[end : one.start], f"[{one.label.upper()}]"]
        end = one.end
    return Redacted("".join([*pieces, text[end:]]), tuple(sorted({one.label for one in found})), found)


def redact_cube(cube: MemCube) -> MemCube:
    """``cube`` with everything sensitive gone from its text and from the words of its header, and the labels added to
    its ``sensitivity``. Unchanged if nothing is found; tensors are not looked into."""
    header, labels = cube.header, set[str]()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            result = redact(value)
            labels.update(result.labels)
            return result.text
        if isinstance(value, Mapping):
            return {clean(name): clean(item) for name, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list) else value

    payload = TextPayload(clean(cube.text)) if isinstance(cube.payload, TextPayload) else cube.payload
    claim = header.claim and replace(header.claim, subject=clean(header.claim.subject), value=clean(header.claim.value))
    changed = replace(
        header,
        claim=claim,
        tags=tuple(map(clean, header.tags)),
        keywords=tuple(map(clean, header.keywords)),
        entities=tuple(map(clean, header.entities)),
        metadata=clean(dict(header.metadata)),
    )
    if not labels:
        return cube
    return MemCube(replace(changed, sensitivity=tuple(sorted({*header.sensitivity, *labels}))), payload)


def _distinct(text: str) -> Iterator[Found]:
    """Findings in order of place; of two that overlap, the one of the earlier rule."""
    found: list[Found] = []
    taken = bytearray(len(text))  # 1 where a finding is
    for rule in _RULES:
        for match in rule.pattern.finditer(text):
            group = "it" if "it" in rule.pattern.groupindex else 0
            start, end = match.span(group)
            if not taken.count(1, start, end) and rule.holds(match[group]):
                taken[start:end] = b"\1" * (end - start)
                found.append(Found(rule.label, start, end))
    yield from sorted(found, key=lambda one: one.start)


def entropy(text: str) -> float:
    """Shannon entropy of its characters, bits each."""
    counts, n = Counter(text).values(), len(text)
    return -sum(count / n * math.log2(count / n) for count in counts) if n else 0.0


def _named_key(value: str) -> bool:
    mixed = any(c.isdigit() for c in value) or not value.isalnum()
    return not value.startswith("[") and mixed and entropy(value) >= _BITS - (len(value) < 12) * 0.5


def _unnamed_key(value: str) -> bool:
    kinds = (any(c.isupper() for c in value), any(c.islower() for c in value), sum(c.isdigit() for c in value) >= 2)
    return all(kinds) and entropy(value) >= _BITS_UNNAMED


def _card(text: str) -> bool:
    """Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay."""
    digits = re.sub(r"\D", "", text)
    first2, first4 = int(digits[:2]), int(digits[:4])
    issued = {
        13: digits[0] == "4",
        14: first2 in (36, 38, 39) or 3000 <= first4 <= 3059,
        15: first2 in (34, 37),
        16: digits[0] == "4" or 51 <= first2 <= 55 or 2221 <= first4 <= 2720 or first2 in (35, 60, 62, 64, 65),
        19: digits[0] == "4" or first2 == 62,
    }
    return issued.get(len(digits), False) and luhn(digits)


def _phone(text: str) -> bool:
    return 8 <= sum(c.isdigit() for c in text) <= 15


_PREFIXES = (
    r"sk-(?:ant-|proj-|or-)?[\w-]{20,}", r"(?:sk|rk|pk|whsec)_(?:live_|test_)?\w{16,}", r"gh[pousr]_\w{30,}",
    r"github_pat_\w{40,}", r"glpat-[\w-]{18,}", r"xox[abeoprs]-[\w-]{10,}", r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"AIza[\w-]{35}", r"ya29\.[\w-]{20,}", r"hf_[A-Za-z0-9]{30,}", r"npm_[A-Za-z0-9]{36}", r"pypi-[\w-]{40,}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}", r"dop_v1_[a-f0-9]{64}", r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
)  # fmt: skip
_SECRET = r"(?:api[ _-]?key|access[ _-]?key|secret(?:[ _-]?key)?|auth[ _-]?token|token|password|passwd|pwd|passphrase)"
_SAID = r"(?:phone|tel|telephone|mobile|cell|fax|whatsapp|sms|(?:call|ring|text|reach|dial) (?:me|us|him|her|them))"
_LABEL = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)"
_BEFORE, _AFTER = r"(?<![\w.+-])", r"(?![\w-])"

# Earlier rules win where two find the same characters.
_RULES = (
    _Rule("api_key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)),
    _Rule("api_key", re.compile(rf"(?<![\w-])(?:{'|'.join(_PREFIXES)})")),
    _Rule("api_key", re.compile(r"\bBearer\s+(?P<it>[\w.~+/-]{16,}=*)")),
    _Rule(
        "api_key",
        re.compile(rf"(?i)\b\w*{_SECRET}\b[\"']?\s*(?:[:=]+|\bis\b)\s*[\"']?(?P<it>[^\s\"',;]{{6,}}[^\s\"',;.!?)])"),
        _named_key,
    ),
    _Rule("email", re.compile(rf"(?i)(?<![\w.+-])[a-z0-9][\w.+%-]*@{_LABEL}+[a-z]{{2,24}}\b")),
    _Rule("iban", re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b"), iban),
    _Rule("card", re.compile(r"(?<![\w.,-])(?:\d[ -]?){12,18}\d(?![\w-]|[.,]\d)"), _card),
    _Rule("national_id", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), ssn),
    _Rule("national_id", re.compile(r"\b(?![DFIQUV])[A-Z](?![DFIQUVO])[A-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")),  # NINO
    _Rule("national_id", re.compile(r"\b[XYZ\d]\d{7}-?[A-Z]\b"), dni),
    _Rule("national_id", re.compile(r"\b[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}\b"), nir),
    _Rule("national_id", re.compile(r"\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b"), codice_fiscale),
    _Rule("national_id", re.compile(r"(?<![\d.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\d)"), cpf),
    _Rule("national_id", re.compile(r"\b[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d\d{3}[\dX]\b"), chinese_id),
    _Rule(
        "phone",
        re.compile(rf"{_BEFORE}\+\d{{1,3}}[ .-]?(?:\(\d{{1,4}}\)[ .-]?)?\d(?:[ .-]?\d){{5,12}}{_AFTER}"),
        _phone,
    ),
    _Rule("phone", re.compile(rf"{_BEFORE}(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{{4}}{_AFTER}")),
    _Rule("phone", re.compile(rf"{_BEFORE}0\d{{2,4}}[ /-]\d{{3,4}}[ -]?\d{{3,5}}{_AFTER}"), _phone),
    _Rule(
        "phone",
        re.compile(rf"(?i)\b{_SAID}\b[^\d\n.!?]{{0,24}}?(?P<it>\+?[(\d](?:[ ()/.-]?\d){{6,14}}){_AFTER}"),
        _phone,
    ),
    _Rule("api_key", re.compile(r"(?<![\w/+.-])[\w+/-]{32,}={0,2}(?![\w/+-])"), _unnamed_key),
)  # fmt: skip


def redacted_messages(messages: Messages) -> tuple[Messages, list[str]]:
    """``messages`` as ``Memory.add`` takes them, with every text redacted; the kinds that were found, sorted."""
    if isinstance(messages, str):
        whole = redact(messages)
        return whole.text, list(whole.labels)
    labels: set[str] = set()
    cleaned: list[Mapping[str, Any]] = []
    for message in [messages] if isinstance(messages, Mapping) else messages:
        content = message.get("content")
        done = redact(content) if isinstance(content, str) else None  # ``add`` says what is wrong with another
        labels.update(done.labels if done else ())
        cleaned.append({**message, "content": done.text} if done else message)
    return cleaned, sorted(labels)
