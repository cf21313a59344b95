"""Statements with the slot and a value of a real change that are none: nothing may be closed by them.

These are regression cases: each was once a wrong supersession. They are not a sample of what people say.
"""

from __future__ import annotations

import pytest
from update_harness import Pair, play

ENDINGS = {"supersede", "close", "late"}

CASES = [
    ("My phone number is 555-123-4567.", "My order number is 9876543210."),
    ("My phone number is 555-123-4567.", "I have case number 20260301123 with support."),
    ("My phone number is 555-123-4567.", "The plumber gave me 555-222-3333 to call."),
    ("My phone number is 555-123-4567.", "You can reach me at the hotel on 555-987-6543 this week."),
    ("My phone number is 555-123-4567.", "My old phone number was 555-000-1111."),
    ("My email is a@x.com.", "I have written to support@corp.com."),
    ("My email is a@x.com.", "support@corp.com sent me the invoice."),
    ("My email is a@x.com.", "I have a second email, b@y.com."),
    ("I live at 12 Oak Street.", "Meet me at 99 King Road at 7."),
    ("I live at 12 Oak Street.", "I am staying at 5 King Street until Sunday."),
    ("My wife is Anna.", "My business partner is Julia."),
    ("My girlfriend is Anna.", "My ex girlfriend is Julia."),
    ("I work at Google.", "People think I work at Apple."),
    ("I work at Google.", "I almost quit my job at Google."),
    ("I work at Google.", "I didn't quit my job at Google after all."),
    ("I work at Google.", "I don't work at Google on Fridays."),
    ("I work at Google.", "I work at Starbucks most mornings."),
    ("I work as a nurse.", "On the side I work as a photographer."),
    ("I live in Boston.", "I moved to Windows 11 and then to Linux."),
    ("I drive a Honda.", "I'm driving a rental Ford this week."),
    ("I have three children.", "I have one child in college."),
    ("I have two cats.", "I have one more cat."),
    ("I'm 30 years old.", "I'm 5 years old at heart."),
    ("I'm vegan.", "I was vegetarian before."),
    ("I have a meeting on January 20.", "I have a meeting on January 25."),
    ("I'm a nurse.", "In my play I work as a detective."),
]


@pytest.mark.parametrize(("known", "said"), CASES)
def test_a_qualified_statement_ends_nothing(known: str, said: str) -> None:
    operations = play(Pair("canonical", "-", "coexist", known, said))
    assert not [operation.reason for operation in operations if operation.kind in ENDINGS]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("My phone number is 555-123-4567.", "My phone number is 555-999-0000 now."),
        ("I'm 29 years old.", "I'm 30 years old."),
        ("I have a dentist appointment on January 20.", "My dentist appointment was moved to January 25."),
        ("I work at Google.", "I quit my job at Google."),
    ],
)
def test_a_plain_change_still_counts(known: str, said: str) -> None:
    operations = play(Pair("canonical", "-", "update", known, said))
    assert [operation.reason for operation in operations if operation.kind in ENDINGS]
