"""ADD, UPDATE, DELETE and NOOP by a model: nothing it says may lose what was said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prompted_world import T0, World, decided, noted

from lamina.bench.scripted_llm import Step, failed, form_of, said, scripted, serving
from lamina.cube.cube import Claim
from lamina.text.prompted.draft import AheadUpdater, Counts
from lamina.text.update import RulesUpdater

LOVES = ("Alice loves Chinese food from Mama Wu.", "I love Chinese food from Mama Wu.")
HATES = ("Alice got sick of Chinese food from Mama Wu.", "I got sick of Chinese food from Mama Wu.")


def counts(world: World) -> Counts:
    return world.pipeline.updater.counts  # type: ignore[attr-defined,no-any-return]


def world_after(path: Path, verdict: Step, old: tuple[str, str], new: tuple[str, str], *, day: int = 3) -> World:
    """``old`` was said first, then ``new``, about which the model gives its verdict; (fact, words) each."""
    with scripted(noted((old[0], [1])), noted((new[0], [2])), verdict) as server:
        world = World(path / "m.db", server.url)
        world.say(old[1])
        world.say(new[1], day=day)
        assert [form_of(body) for body in server.bodies()] == ["Notes", "Notes", "Verdict"]
    return world


def test_a_contradiction_closes_the_old_and_keeps_the_news(tmp_path: Path) -> None:
    world = world_after(tmp_path, decided({"fact": 0, "event": "DELETE", "id": 0}), LOVES, HATES)
    assert world.facts() == [HATES[0]]
    old = world.store.query(world.cubes()[0].header.scope, {"semantic_type": {"ne": "turn"}}, closed=True).cubes
    closed = next(cube for cube in old if cube.text == LOVES[0])
    assert closed.header.superseded_by == world.cubes()[0].id


def test_what_is_older_in_the_world_ends_nothing(tmp_path: Path) -> None:
    world = world_after(tmp_path, decided({"fact": 0, "event": "DELETE", "id": 0}), LOVES, HATES, day=-30)
    assert world.facts() == [LOVES[0]]


def test_more_of_the_same_is_the_next_version_of_the_same_memory(tmp_path: Path) -> None:
    both = "Alice owns a red kayak built in Tartu."
    verdict = decided({"fact": 0, "event": "UPDATE", "id": 0, "text": both})
    world = world_after(
        tmp_path,
        verdict,
        ("Alice owns a red kayak.", "I own a red kayak."),
        ("Alice's kayak was built in Tartu.", "My kayak was built in Tartu."),
    )
    (cube,) = world.cubes()
    assert (cube.text, cube.header.version) == (both, 2)
    assert len(cube.header.provenance.sources) == 2


@pytest.mark.parametrize("text", ["Alice's kayak was built in Tartu.", "Alice owns a red kayak built in Oslo.", None])
def test_a_rewriting_that_loses_or_invents_is_an_addition(tmp_path: Path, text: str | None) -> None:
    verdict = decided({"fact": 0, "event": "UPDATE", "id": 0, "text": text})
    old, new = "Alice owns a red kayak.", "Alice's kayak was built in Tartu."
    world = world_after(tmp_path, verdict, (old, "I own a red kayak."), (new, "My kayak was built in Tartu."))
    assert sorted(world.facts()) == sorted([old, new])


def test_a_noop_that_would_lose_a_number_is_no_decision(tmp_path: Path) -> None:
    verdict = decided({"fact": 0, "event": "NOOP", "id": 0})
    old, new = (
        ("Alice rows the kayak often.", "I row the kayak often."),
        ("Alice rows the kayak 12 times a week.", "I row the kayak 12 times a week."),
    )
    assert new[0] in world_after(tmp_path, verdict, old, new).facts()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("Alice loves tea.", "I love tea."), ("Alice hates tea.", "I hate tea.")),
        (("Alice drinks tea.", "I drink tea."), ("Alice does not drink tea.", "I do not drink tea.")),
        (("Alice rows the kayak.", "I row the kayak."), ("Alice sold the kayak.", "I sold the kayak.")),
    ],
)
def test_a_noop_that_would_lose_a_word_or_a_denial_is_no_decision(
    tmp_path: Path, old: tuple[str, str], new: tuple[str, str]
) -> None:
    assert new[0] in world_after(tmp_path, decided({"fact": 0, "event": "NOOP", "id": 0}), old, new).facts()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Alice bought a kayak for 106 euros.", "Alice bought a kayak for 112 euros."),  # two happenings
        ("Alice bought a kayak for 106 euros.", "Alice sold a kayak."),  # it was bought all the same
        ("Alice paints lamps with Salma.", "Alice paints lamps with Tariq."),  # of two people
        ("Alice has 156 lamps at her house in Oslo.", "Alice repaired a lamp."),  # a word in common
    ],
)
def test_a_delete_of_what_the_news_does_not_exclude_is_no_decision(tmp_path: Path, old: str, new: str) -> None:
    said = [text.replace("Alice", "I", 1) for text in (old, new)]
    world = world_after(tmp_path, decided({"fact": 0, "event": "DELETE", "id": 0}), (old, said[0]), (new, said[1]))
    assert set(world.facts()) == {old, new}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Alice owns a harpsichord from Mama Wu.", "Alice sold the harpsichord from Mama Wu."),
        ("Alice's dog Rex weighs 20 kilos.", "Alice's dog Rex weighs 22 kilos."),
    ],
)
def test_a_delete_of_what_the_news_excludes_is_taken(tmp_path: Path, old: str, new: str) -> None:
    said = [text.replace("Alice's", "My").replace("Alice owns", "I own").replace("Alice", "I") for text in (old, new)]
    world = world_after(tmp_path, decided({"fact": 0, "event": "DELETE", "id": 0}), (old, said[0]), (new, said[1]))
    assert world.facts() == [new]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            ("Alice is allergic to penicillin.", "I am allergic to penicillin."),
            ("Alice bought a lamp.", "I bought a lamp."),
        ),
        (
            ("Bob owns a kayak.", "Bob owns a kayak."),
            ("Alice sold a kayak.", "I sold a kayak."),
        ),
    ],
)
def test_a_delete_of_what_is_about_something_else_is_no_decision(
    tmp_path: Path, old: tuple[str, str], new: tuple[str, str]
) -> None:
    world = world_after(tmp_path, decided({"fact": 0, "event": "DELETE", "id": 0}), old, new)
    assert sorted(world.facts()) == sorted([old[0], new[0]])


def test_a_noop_counts_as_said_again(tmp_path: Path) -> None:
    verdict = decided({"fact": 0, "event": "NOOP", "id": 0})
    new = ("Alice is fond of Chinese food from Mama Wu.", "I am fond of Chinese food from Mama Wu.")
    world = world_after(tmp_path, verdict, LOVES, new)
    assert world.facts() == [LOVES[0]] and world.cubes()[0].header.version == 2


@pytest.mark.parametrize(
    "verdict",
    [
        decided({"fact": 0, "event": "DELETE", "id": 41}),
        decided({"fact": 0, "event": "NOOP", "id": None}),
        decided({"fact": 9, "event": "DELETE", "id": 0}),
        decided(),
        failed(503),
        failed(401),
    ],
    ids=["unknown id", "no id", "unknown fact", "nothing", "away", "no key"],
)
def test_where_the_model_says_nothing_usable_the_rules_decide(tmp_path: Path, verdict: Step) -> None:
    boston, denver = (
        ("Alice lives in Boston.", "I live in Boston."),
        ("Alice lives in Denver now.", "I live in Denver now."),
    )
    world = world_after(tmp_path, verdict, boston, denver)
    assert world.facts() == [denver[0]] and world.waiting() == []


def test_unknown_numbers_are_counted(tmp_path: Path) -> None:
    world = world_after(
        tmp_path, decided({"fact": 0, "event": "DELETE", "id": 41}, {"fact": 5, "event": "ADD"}), LOVES, HATES
    )
    assert (counts(world).unknown_ids, counts(world).valid) == (2, 1)


def test_a_target_that_changed_while_the_model_thought_is_decided_on_by_rules(tmp_path: Path) -> None:
    """The old fact is closed by somebody else between question and transaction: nothing is closed twice or lost."""

    def answer(body: dict[str, object]) -> Step:
        if form_of(body) == "Notes":  # type: ignore[arg-type]
            new = "sick" in str(body["messages"])
            return noted((HATES[0], [2])) if new else noted((LOVES[0], [1]))
        target = world.cubes()[0]
        with world.store.transaction() as tx:
            tx.close(target.id, at=T0 + timedelta(days=1))
        return decided({"fact": 0, "event": "DELETE", "id": 0})

    with serving(answer) as server:  # type: ignore[arg-type]
        world = World(tmp_path / "m.db", server.url)
        world.say(LOVES[1])
        outcome = world.say(HATES[1], day=3)[1]
    assert world.facts() == [HATES[0]] and outcome.event == "ADD"


def test_facts_of_one_call_do_not_double_each_other(tmp_path: Path) -> None:
    twice = noted(("Alice lives in Boston.", [1]), ("Alice lives in Boston", [2]))
    adds = decided({"fact": 0, "event": "ADD"}, {"fact": 1, "event": "ADD"})
    with scripted(noted(("Alice owns a kayak in Boston.", [1])), twice, adds) as server:
        world = World(tmp_path / "m.db", server.url)
        world.say("I own a kayak in Boston.")
        world.say("I live in Boston.", "Yes, Boston is where I live.", day=1)
    assert sorted(world.facts()) == ["Alice lives in Boston.", "Alice owns a kayak in Boston."]


def test_alone_it_is_the_rules(tmp_path: Path) -> None:
    with scripted() as server:
        updater = World(tmp_path / "m.db", server.url).pipeline.updater
    assert isinstance(updater, AheadUpdater) and not isinstance(RulesUpdater(), AheadUpdater)
    claim = Claim("Alice", "residence", "boston")
    assert updater.slots_to_compare(claim) == RulesUpdater().slots_to_compare(claim)
    assert updater.decide_ahead([], []) == []


def test_prompt_and_memories_are_quoted_as_data(tmp_path: Path) -> None:
    said_old, said_new = 'Alice wrote "go home".', 'Alice wrote "stay".'
    with scripted(noted((said_old, [1])), noted((said_new, [2])), said('{"decisions": []}')) as server:
        world = World(tmp_path / "m.db", server.url)
        world.say('I wrote "go home".')
        world.say('I wrote "stay".', day=1)
    assert '0: "Alice wrote \\"go home\\"."' in server.bodies()[2]["messages"][1]["content"]
