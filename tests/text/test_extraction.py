"""Facts from turns: golden cases, who is heard, what is dropped, and the properties every fact keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.text.base import Fact, Turn
from lamina.text.english.entities import entities, keywords
from lamina.text.english.slots import stem
from lamina.text.extraction import RulesExtractor

AT = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)  # a Monday


def turn(text: str, *, speaker: str = "Caroline", role: str = "user", named: bool = True) -> Turn:
    return Turn(text, speaker, role, AT, "s1", 0, named=named)


def extract(text: str, context: tuple[Turn, ...] = (), **how: object) -> list[Fact]:
    return RulesExtractor().extract(turn(text, **how), context)  # type: ignore[arg-type]


def one(text: str) -> Fact:
    (fact,) = extract(text)
    return fact


# said | told | subject | slot | value | marks (- denied, plan, hypothetical, reported)
GOLDEN = """
I live in Boston. | Caroline lives in Boston. | Caroline | residence | boston |
I've been living in Ulm since 2016. | Caroline has been living in Ulm since 2016. | Caroline | residence | ulm |
i live in boston | Caroline lives in boston | Caroline | residence | boston |
Moved to Rome last week! | Caroline moved to Rome last week (week of 1 May 2023)! | Caroline | residence | rome |
I lived in Rome as a child. | Caroline lived in Rome as a child. | Caroline | former.residence | rome |
I used to live in Rome. | Caroline used to live in Rome. | Caroline | residence | rome | -
I want to move to Spain. | Caroline wants to move to Spain. | Caroline | residence | spain | plan
If I go, I move to Bonn. | If Caroline goes, Caroline moves to Bonn. | Caroline | | | hypothetical
Tom says I work at Apple. | Tom says Caroline works at Apple. | Caroline | employer | apple | reported
I work at the city library. | Caroline works at the city library. | Caroline | employer | city library |
I also work at a bakery. | Caroline also works at a bakery. | Caroline | employer.also | bakery |
I work as a nurse. | Caroline works as a nurse. | Caroline | title | nurse |
I'm a marine biologist. | Caroline is a marine biologist. | Caroline | role | marine biologist |
My job is software tester. | Caroline's job is software tester. | Caroline | title | software tester |
I study at MIT. | Caroline studies at MIT. | Caroline | school | mit |
I'm majoring in biology. | Caroline is majoring in biology. | Caroline | major | biology |
Ana no longer works at Acme. | Ana no longer works at Acme. | Ana | employer | acme | -
Will works at Apple. | Will works at Apple. | Will | employer | apple |
Will's boss is Ann Lee. | Will's boss is Ann Lee. | Will | relative.boss | ann lee |
Hope lives in Hope. | Hope lives in Hope. | Hope | residence | hope |
Rose works at Target. | Rose works at Target. | Rose | employer | target |
May is my sister. | May is Caroline's sister. | Caroline | relative.sister | may |
Bob Smith now works for Zentra. | Bob Smith now works for Zentra. | Bob Smith | employer | zentra |
Ana Maria de Souza works at Acme. | Ana Maria de Souza works at Acme. | Ana Maria de Souza | employer | acme |
The new guy works at Acme. | The new guy works at Acme. | Caroline | | |
A friend of mine lives in Rome. | A friend of Caroline's lives in Rome. | Caroline | | |
They made me shift manager. | They made Caroline shift manager. | Caroline | title | shift manager |
I moved to New York. | Caroline moved to New York. | Caroline | residence | new york |
I moved to Évora. | Caroline moved to Évora. | Caroline | residence | évora |
I moved my savings to Zurich. | Caroline moved Caroline's savings to Zurich. | Caroline | | |
I don't have the cat carrier Ana lost. | Caroline doesn't have the cat carrier Ana lost. | Caroline | | | -
My sister Ana lives in Denver. | Caroline's sister Ana lives in Denver. | Caroline's sister Ana | residence | denver |
My girlfriend is Anna. | Caroline's girlfriend is Anna. | Caroline | partner | anna |
My brother's name is Leo. | Caroline's brother's name is Leo. | Caroline | relative.brother | leo |
I'm engaged. | Caroline is engaged. | Caroline | marital | engaged |
Tom and I broke up. | Tom and Caroline broke up. | Caroline | partner | tom | -
My phone number is 555-1234. | Caroline's phone number is 555-1234. | Caroline | phone | 5551234 |
My boss's email is bo@corp.com. | Caroline's boss's email is bo@corp.com. | Caroline's boss | email | bo@corp.com |
My work email is a@corp.com. | Caroline's work email is a@corp.com. | Caroline | email.office | a@corp.com |
My address is 12 Oak Street. | Caroline's address is 12 Oak Street. | Caroline | address | 12 oak street |
I'm vegan. | Caroline is vegan. | Caroline | diet | vegan |
I don't eat meat. | Caroline doesn't eat meat. | Caroline | diet | vegetarian |
I'm allergic to nuts. | Caroline is allergic to nuts. | Caroline | allergy | nuts |
Blue is my favourite colour. | Blue is Caroline's favourite colour. | Caroline | favourite.colour | blue |
I love hiking in the rain. | Caroline loves hiking in the rain. | Caroline | likes | hiking in rain |
I hate olives. | Caroline hates olives. | Caroline | likes | olives | -
I can't stand olives. | Caroline can't stand olives. | Caroline | likes | olives | -
I'm not a fan of olives. | Caroline is not a fan of olives. | Caroline | likes | olives | -
I loved the show in Leeds. | Caroline loved the show in Leeds. | Caroline | | |
I have two cats. | Caroline has two cats. | Caroline | count.cat | 2 |
We adopted a puppy named Coco. | Caroline adopted a puppy named Coco. | Caroline | pet | coco |
I drive a Honda Civic. | Caroline drives a Honda Civic. | Caroline | uses.car | honda civic |
I use Vim as my editor. | Caroline uses Vim as Caroline's editor. | Caroline | uses.editor | vim |
I'm 29 years old. | Caroline is 29 years old. | Caroline | age | 29 |
I speak French. | Caroline speaks French. | Caroline | language | french |
I play the violin. | Caroline plays the violin. | Caroline | skill | violin |
I quit smoking. | Caroline quit smoking. | Caroline | habit | smoke | -
I sold my boat. | Caroline sold Caroline's boat. | Caroline | ended | boat | -
I visited Rome in 2019. | Caroline visited Rome in 2019. | Caroline | visit | rome |
I was born in Hanoi. | Caroline was born in Hanoi. | Caroline | birthplace | hanoi |
My name is Ines. | Caroline's name is Ines. | Caroline | name | ines |
My exam is today. | Caroline's exam is today (8 May 2023). | Caroline | plan.exam.date | 2023-05-08T00:00+00:00 | plan
My birthday is on March 3rd. | Caroline's birthday is on March 3rd (3 March 2024). | Caroline | birth | 03-03 |
My date of birth is 3 March 1990. | Caroline's date of birth is 3 March 1990. | Caroline | birth | 1990-03-03 |
I was born on 3 March 1990. | Caroline was born on 3 March 1990. | Caroline | birth | 1990-03-03 |
We moved to Jira from Trello. | Caroline moved to Jira from Trello. | Caroline | switch.trello | jira |
We moved to Slack. | Caroline moved to Slack. | Caroline | uses.messenger | slack |
I live in Emacs. | Caroline lives in Emacs. | Caroline | uses.editor | emacs |
Sorry, I meant Austin, not Boston. | Sorry, Caroline meant Austin, not Boston. | Caroline | correction.boston | austin |
Correction: it's Austin, not Boston. | Correction: it's Austin, not Boston. | Caroline | correction.boston | austin |
I'm staying in Rome until Sunday. | Caroline is staying in Rome until Sunday (14 May 2023). | Caroline | stay | rome |
I am at 9 Elm St until May 2024. | Caroline is at 9 Elm St until May 2024. | Caroline | stay | 9 elm st |
I have diabetes. | Caroline has diabetes. | Caroline | health | diabetes |
"""
ROWS = [[cell.strip() for cell in row.split("|")] for row in GOLDEN.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_golden(row: list[str]) -> None:
    said, told, subject, slot, value, marks = row
    fact = one(said)
    claim = fact.claim
    assert fact.text == told
    assert (claim.subject, claim.slot, claim.value) == (subject, slot or None, value or None)
    assert claim.polarity == (marks != "-")
    assert claim.modality == (marks if marks in ("plan", "hypothetical", "reported") else "asserted")


def test_there_are_some_thirty_families() -> None:
    assert len({row[3].split(".")[0] for row in ROWS if row[3]}) >= 28


@pytest.mark.parametrize(
    "chatter",
    [
        "Hi!", "Hey Mel! Good to see you!", "Thanks so much.", "How are you?", "Do you live in Boston?",
        "Wow, that's great!",
        "Sounds good to me.", "Take care!", "Haha ok", "Good luck with everything!", "You should be proud.", "🎉🎉🎉",
        "That looks amazing!", "Call me later.", "Let's do that.", "I know.", "I'm so happy for you!", "...", "[image]",
    ],
)  # fmt: skip
def test_chatter_is_dropped(chatter: str) -> None:
    assert extract(chatter) == []


@pytest.mark.parametrize(
    "heard",
    [
        "Then Anna goes: I am vegan now.", "Anna was like, I'm vegan now.", 'Anna said "I am vegan now."',
        "And she goes, I am vegan now.", "My sister said: I am vegan now!", "Tom told me: I moved to Rome.",
    ],
)  # fmt: skip
def test_the_i_of_somebody_elses_words_is_not_the_speaker(heard: str) -> None:
    for fact in extract(heard):
        assert fact.claim.slot is None
        assert fact.claim.modality == "reported"
        assert not re.search(r"Caroline (?:is|moved)", fact.text)


@pytest.mark.parametrize(
    "own",
    [
        "I said: I live in Rome now.",
        "Good news: I live in Rome now.",
        "Update: I live in Rome.",
        "That being said, I live in Rome.",
    ],
)
def test_a_colon_alone_is_no_quotation(own: str) -> None:
    assert extract(own)[-1].claim == one("I live in Rome.").claim


@pytest.mark.parametrize(
    "false_friend",
    [
        "I work at night.", "I work from home.", "I live for the weekend.", "I moved to tears.", "I'm 30 minutes away.",
        "I'm into it.", "I love it.", "I play with fire.", "I have three meetings today.", "I'm a mess.",
        "I left early.",
        "There were five kids at the party.", "I'm staying in Rome for a week.", "We're engaged in talks with them.",
        "My favourite part was the boat ride.", "One of my favourite bands is Oasis.",
    ],
)  # fmt: skip
def test_words_that_only_look_like_a_slot(false_friend: str) -> None:
    assert [fact.claim.slot for fact in extract(false_friend) if fact.claim.slot] == []


# -- time ---------------------------------------------------------------------------------------------------


def test_relative_dates_are_resolved_in_the_text() -> None:
    assert one("I ran a marathon last week.").text == "Caroline ran a marathon last week (week of 1 May 2023)."
    assert one("I ran a marathon on 7 May 2023.").text == "Caroline ran a marathon on 7 May 2023."


@pytest.mark.parametrize(
    ("said", "valid_from", "valid_to"),
    [
        ("I ran a marathon yesterday.", "2023-05-07", "2023-05-08"),  # an event: its interval
        ("I moved to Rome last month.", "2023-04-01", None),  # a state: from its beginning
        ("I have worked at Shell since 2016.", "2016-01-01", None),
        ("I work at Shell until June 2024.", None, "2024-07-01"),
        ("I quit my job on 1 May 2023.", "2023-05-01", None),
        ("My exam is on 3 June 2023.", "2023-06-03", "2023-06-04"),
        ("I love hiking.", None, None),
    ],
)
def test_validity(said: str, valid_from: str | None, valid_to: str | None) -> None:
    fact = one(said)
    found = [None if moment is None else moment.date().isoformat() for moment in (fact.valid_from, fact.valid_to)]
    assert found == [valid_from, valid_to]


def test_yesterday_is_on_the_speakers_calendar() -> None:
    tokyo = timezone(timedelta(hours=9))
    late = Turn(
        "I ran a marathon today.", "Yuki", "user", datetime(2023, 5, 7, 16, tzinfo=UTC), "s", 0, named=True, zone=tokyo
    )
    (fact,) = RulesExtractor().extract(late)
    assert fact.text == "Yuki ran a marathon today (8 May 2023)."
    assert fact.valid_from == datetime(2023, 5, 7, 15, tzinfo=UTC)


# -- who is heard ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["system", "tool"])
def test_system_and_tool_are_never_heard(role: str) -> None:
    assert extract("I live in Boston.", role=role) == []


def test_an_assistant_speaks_only_of_itself() -> None:
    bot = {"speaker": "Assistant", "role": "assistant", "named": False}
    assert extract("Paris is the capital of France. You live in Rome. The library opens at 9.", **bot) == []
    assert [f.text for f in extract("I will book the table for Friday.", **bot)] == [
        "Assistant will book the table for Friday (12 May 2023)."
    ]
    assert len(extract("I live in Boston.", role="assistant", named=True)) == 1  # a name makes it a person


def test_you_is_the_other_one_of_two() -> None:
    mel = turn("Hi!", speaker="Melanie")
    assert extract("I met your brother at the lake.", (mel,))[0].text == "Caroline met Melanie's brother at the lake."
    assert extract("I met your brother at the lake.")[0].text == "Caroline met your brother at the lake."


def test_she_is_the_relative_just_mentioned() -> None:
    facts = extract("My sister Clara moved to Perth. She works for Qantas now. He works for Shell.")
    assert [(f.claim.subject, f.claim.slot, f.claim.value) for f in facts[:2]] == [
        ("Caroline's sister Clara", "residence", "perth"),
        ("Caroline's sister Clara", "employer", "qantas"),
    ]
    assert all(f.claim.slot is None for f in facts[2:])


def test_clauses_with_slots_stand_alone() -> None:
    facts = extract("I'm a nurse, I live in Hull and work at Castle Hill.")
    assert [(f.text, f.claim.slot) for f in facts] == [
        ("Caroline is a nurse", "role"),
        ("Caroline lives in Hull", "residence"),
        ("Caroline works at Castle Hill.", "employer"),
    ]


# -- entities and keywords --------------------------------------------------------------------------------------


def test_entities() -> None:
    text = 'Yesterday Anna Lee and I saw "The Lost City" near Lake Como, paid $12.50 at 5 km from bo@x.org on Friday.'
    assert set(entities(text)) == {"Anna Lee", "Lost City", "Lake Como", "The Lost City", "$12.50", "5 km", "bo@x.org"}


def test_names_with_new_and_with_accents() -> None:
    assert entities("I moved to New York.") == ("New York",)
    assert entities("New York is loud.") == ("New York",)
    assert entities("Élodie met Óscar Núñez.") == ("Óscar Núñez",)
    assert entities("New Anna arrived.") == ()


def test_a_capital_at_the_start_is_no_name() -> None:
    assert entities("Running is fun.") == ()
    assert entities("Rex barked.", known=frozenset({"Rex"})) == ("Rex",)


def test_keywords() -> None:
    found = keywords("I really love painting watercolor landscapes with my daughter near the old harbor.")
    assert found == ("love painting watercolor", "old harbor", "daughter")


# -- properties ----------------------------------------------------------------------------------------------------

_GIVEN = {"is", "has", "had", "does", "was", "will", "would", "wants", "to", "s", "themselves", "not"}
_BRACKETED = re.compile(r" \([^()]*\d{4}[^()]*\)")
_PHRASES = """
I live in Boston.|We're moving to Rome next week!|my sister Ana|and|because|I love it|Tom and I|, |broke up|last summer
in 2019|don't|I've|never|used to|play the piano|bought a car|at Google|555-1234|a@b.co|?|...|😀|"I quit"|work|if|you
your|mine|i|we'd|’|World War I|(|)|My name is|12 Oak Street|was born|two cats
from tea to coffee|no longer|the|He|said that
"""
_PIECES = st.sampled_from([*re.split(r"[|\n]", _PHRASES.strip()), "\n"])
_TEXTS = st.lists(_PIECES, max_size=14).map(" ".join) | st.text(max_size=200)


def check_fact(fact: Fact, text: str, names: set[str]) -> None:
    assert 0 <= fact.start < fact.end <= len(text)
    assert fact.text.strip()
    assert fact.claim.subject
    said = (
        {stem(w) for w in words_of(text)}
        | {stem(w) for w in _GIVEN}
        | {stem(w) for name in names for w in words_of(name)}
    )
    told = words_of(_BRACKETED.sub("", fact.text))
    assert [w for w in told if stem(w) not in said] == []
    for part in (*fact.entities, *fact.keywords):
        assert part.lower() in text.lower().replace("’", "'") or all(w in text.lower() for w in part.lower().split())


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("n't", " not").replace("n’t", " not"))


@settings(max_examples=300, deadline=None)
@given(_TEXTS, st.booleans())
def test_facts_are_grounded_in_the_turn(text: str, with_other: bool) -> None:
    """Whatever is said: no exception, spans inside, and no word that the turn, a name or grammar did not give."""
    context = (turn("Hello there", speaker="Melanie"),) if with_other else ()
    for fact in extract(text, context):
        check_fact(fact, text, {"Caroline", "Melanie"})
        assert extract(text, context) == extract(text, context)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=20).filter(str.strip), st.text(max_size=120))
def test_any_speaker_name(speaker: str, text: str) -> None:
    for fact in extract(f"I live in Boston. {text}", speaker=speaker):
        assert 0 <= fact.start < fact.end
