"""What is sensitive goes, what merely looks like it stays: counted on a list of each."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cube.cube import Claim, Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.kernel.governing.checksums import iban, luhn
from lamina.kernel.governing.redaction import entropy, redact, redact_cube

# (text, what must be gone, label). Numbers are the published examples of their formats.
SENSITIVE = [
    ("my key is sk-proj-abcdEFGH1234ijklMNOP5678qrst", "sk-proj-abcdEFGH1234ijklMNOP5678qrst", "api_key"),
    ("export AWS=AKIAIOSFODNN7EXAMPLE now", "AKIAIOSFODNN7EXAMPLE", "api_key"),
    ("clone with ghp_16C7e42F292c6912E7710c838347Ae178B4a please", "ghp_16C7e42F", "api_key"),
    ("Google: AIzaSyDdI0hCZtE6vySjMm-WEfRq3CPzqKqqsHI.", "AIzaSyDdI0hCZtE6vySjMm", "api_key"),
    ("slack xoxb-123456789012-abcdefGHIJKL", "xoxb-123456789012", "api_key"),
    ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9", "dozjg", "api_key"),
    ("the password is hunter2!Zq", "hunter2!Zq", "api_key"),
    ('DB_PASSWORD="p4ss-W0rd-xyz"', "p4ss-W0rd-xyz", "api_key"),
    ("api_key: 9f8a7b6c5d4e3f2a1b0c", "9f8a7b6c5d4e3f2a1b0c", "api_key"),
    ("Authorization: Bearer abcDEF123456ghiJKL789", "abcDEF123456ghiJKL789", "api_key"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE", "api_key"),
    ("use wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1 there", "wJalrXUtnFEMI", "api_key"),
    ("pay with 4111 1111 1111 1111 today", "4111 1111", "card"),
    ("card 5555555555554444, thanks", "5555555555554444", "card"),
    ("amex 3782-822463-10005", "3782-822463-10005", "card"),
    ("diners 30569309025904.", "30569309025904", "card"),
    ("write to anna.k+news@mail.example.co.uk soon", "anna.k+news@mail.example.co.uk", "email"),
    ("Bob <bob@example.com>.", "bob@example.com", "email"),
    ("call me at (212) 555-0187", "555-0187", "phone"),
    ("my cell: 415-555-2671.", "415-555-2671", "phone"),
    ("reach him on +44 20 7946 0958", "7946 0958", "phone"),
    ("+49 (0) 30 901820 is the office", "901820", "phone"),
    ("phone 2125550187", "2125550187", "phone"),
    ("London 020 7946 0958", "7946", "phone"),
    ("IBAN DE89 3704 0044 0532 0130 00 at the bank", "3704 0044", "iban"),
    ("transfer to GB82WEST12345698765432", "GB82WEST12345698765432", "iban"),
    ("NO93 8601 1117 947", "1117", "iban"),
    ("SSN 078-05-1120", "078-05-1120", "national_id"),
    ("NI number AB 12 34 56 C", "AB 12 34 56 C", "national_id"),
    ("DNI 12345678Z", "12345678Z", "national_id"),
    ("NIE X1234567L", "X1234567L", "national_id"),
    ("secu 2 55 08 14 168 025 38", "168 025", "national_id"),
    ("codice RSSMRA85T10A562S", "RSSMRA85T10A562S", "national_id"),
    ("CPF 111.444.777-35", "111.444.777-35", "national_id"),
    ("ID 11010519491231002X", "11010519491231002X", "national_id"),
]  # fmt: skip

ORDINARY = [
    "I moved from Boston to Denver on 2024-06-12 at 10:30.",
    "The meeting is on 12.05.2024, not 05/12/2024.",
    "Order number 1234567890123456 arrived.",
    "Invoice 2023-000123-4567 was paid.",
    "Ticket #4815162342 is closed.",
    "Between 1939 and 1945, 70,000,000 people died.",
    "From 2019-2023 she lived at 1600 Pennsylvania Avenue.",
    "Pi is 3.14159265358979323846.",
    "The population is 1 400 000 000.",
    "It cost $1,234,567.89 in 1999.",
    "Version 1.2.3.4 runs at 192.168.100.200.",
    "ISBN 978-3-16-148410-0 is the book.",
    "Commit 3f786850e387550fdab836ed7e6dc881de23001b broke it.",
    "See 550e8400-e29b-41d4-a716-446655440000 for details.",
    "My favourite number is 42.",
    "The token was lost in the mail.",
    "The password is the name of my cat.",
    "I forgot my password: it happens.",
    "The secret is patience.",
    "Room 020 on floor 3, seat 14C.",
    "Flight LH 2034 leaves at 06:45.",
    "Her score was 555 of 600.",
    "Temperature fell from 12-15 to 3-4 degrees.",
    "The key to success is work.",
    "We scored 21-14, 3-6 and 10-2.",
    "Meet me @ the station.",
    "She follows @bob_example on the net.",
    "Timestamps like 1718182800000 are milliseconds.",
    "Package 1Z999AA10123456784 is on its way.",
    "The ratio is 0.123456789012.",
    "GPS 48.858844, 2.294351 is Paris.",
    "Chapter 12 verse 34 page 5678.",
    "In 2001 the towers fell; in 2011 he died.",
    "DE is short for Germany; GB82 is nothing.",
    "https://example.org/articles/2024/06/12/a-long-title-with-many-words-in-it",
    "src/lamina/kernel/lifecycle_transition_table_as_data.py",
    "The call lasted 3600 seconds.",
    "I ran 10000 m in 2400 s.",
    "Model number WH-1000XM4 costs 348 dollars.",
    "Donaudampfschifffahrtsgesellschaftskapitän is long.",
    "He was born 19850412 in Rome.",
    "Call the function with 12 arguments.",
    "The 100-20-300 rule does not exist.",
    "Her number is 7.",
    "Reach level 20240612 to win.",
    "AB12 is a postcode.",
]


@pytest.mark.parametrize(("text", "secret", "label"), SENSITIVE)
def test_what_is_sensitive_goes(text: str, secret: str, label: str) -> None:
    result = redact(text)
    assert secret not in result.text
    assert result.labels == (label,)
    assert f"[{label.upper()}]" in result.text
    assert redact(result.text).text == result.text


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_ordinary_stays(text: str) -> None:
    assert redact(text).text == text


def test_several_in_one_text_keep_the_words_between_them() -> None:
    text = "Mail a@b.org or c@d.org, pay 4111111111111111, ring +1 212 555 0187."
    assert redact(text).text == "Mail [EMAIL] or [EMAIL], pay [CARD], ring [PHONE]."
    assert [text[one.start : one.end] for one in redact(text).found][1] == "c@d.org"


def test_one_wrong_digit_is_no_card_and_no_account() -> None:
    card, account = "4111111111111111", "DE89370400440532013000"
    assert luhn(card) and iban(account)
    for place in range(len(card)):
        for digit in set("0123456789") - {card[place]}:
            assert not luhn(card[:place] + digit + card[place + 1 :])
    for place in range(2, len(account)):
        for digit in set("0123456789") - {account[place]}:
            assert not iban(account[:place] + digit + account[place + 1 :])


def test_random_digits_are_rarely_taken_for_cards() -> None:
    """A sixteen-digit number has one chance in ten of Luhn, and about one in five of an issuer's prefix."""
    rng = random.Random(3)
    hits = sum(bool(redact(f"order {rng.randrange(10**15, 10**16)} came").found) for _ in range(3000))
    assert hits < 3000 * 0.05


@given(st.text(max_size=200))
def test_any_text_survives_and_a_second_pass_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once.text).text == once.text
    assert (once.text == text) == (not once.found)


def test_a_cube_loses_it_in_text_and_header() -> None:
    secret = "bob@example.com"
    header = Header(
        claim=Claim("user", "email", secret), keywords=(secret,), entities=("Bob", secret), tags=(secret,),
        metadata={"from": [secret, {"cc": secret}], "n": 1}, sensitivity=("card",),
    )  # fmt: skip
    clean = redact_cube(MemCube(header, TextPayload(f"His mail is {secret}")))
    assert secret not in repr(clean)
    assert clean.header.sensitivity == ("card", "email")
    assert clean.header.id == header.id
    plain = MemCube(Header(metadata={"a": 1}), TextPayload("tea"))
    assert redact_cube(plain) is plain
    tensors = MemCube(Header(kind="activation"), TensorPayload({}, Fingerprint("a", "b", "c", "d")))
    assert redact_cube(tensors) is tensors


def test_entropy() -> None:
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abcd") == pytest.approx(2)
