"""Summaries take sentences over, keywords take words over; earlier sessions decide what is rare."""

from __future__ import annotations

from lamina.text.granularities.summaries import extract_keywords, extract_summary

TALK = (
    "[Ann]: The marathon training is going well. Wow!",
    "[Ben]: I saw your marathon training plan on the fridge.",
    "[Ann]: My sister bought seven green lanterns yesterday evening.",
    "[Ben]: Training for a marathon needs good running shoes, Dr. Hart said.",
    "[Ann]: New running shoes make marathon training easier.",
)


def test_the_central_sentences_are_taken_over_in_order_with_their_speaker() -> None:
    lines = extract_summary(TALK, limit=3).split("\n")
    assert len(lines) == 3
    assert all(any(line.split("]: ")[1] in said for said in TALK) for line in lines)
    assert all(line.startswith(("[Ann]: ", "[Ben]: ")) for line in lines)
    assert "lanterns" not in " ".join(lines)
    places = [next(at for at, said in enumerate(TALK) if line.split("]: ")[1] in said) for line in lines]
    assert places == sorted(places)


def test_little_is_taken_over_whole_and_nothing_makes_nothing() -> None:
    assert extract_summary(("[Ann]: Hi!",)) == "[Ann]: Hi!"
    assert extract_summary(("no speaker here",)) == "no speaker here"
    assert extract_summary(("[Ann]: ",)) == ""
    assert extract_summary(()) == ""


def test_rare_words_come_first() -> None:
    known = {"marathon": 9, "run": 9}
    words = extract_keywords(
        "The marathon, the marathon! Zebra crossings.", lambda term: known.get(term, 0), 10, limit=2
    )
    assert any("zebra" in word for word in words)
    assert "the" not in extract_keywords("the the the cat", lambda _: 0, 0)
    assert "marathon" in extract_keywords("The marathon, the marathon! Zebra.", lambda _: 0, 0, limit=2)


def test_keywords_are_words_and_pairs_as_they_were_said() -> None:
    words = extract_keywords("Running shoes and running shoes", lambda _: 0, 0)
    assert set(words) == {"running", "shoes", "running shoes", "shoes running"}
    assert extract_keywords("", lambda _: 0, 5) == ()
