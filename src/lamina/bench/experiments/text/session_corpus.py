"""Conversations as sessions with questions: read from LoCoMo's file as published, or generated in its shape.

Reading takes evidence ids as they are: a protocol that skips the malformed ones needs to see them. The file's
``session_summary`` (written by gpt-3.5, without sight of the questions) stands in for a summary by a language model.

``generate`` writes conversations of 19 to 32 sessions and 369 to 689 turns by seed. A session is about two *themes*,
each with members that share meaning, not words (guitar, violin); half of its turns are small talk. A question asks
for one detail in its own words, for one thing by another word, or for all sessions where somebody touched a theme.
Single words find the first kind, vectors the others; they are mixed as LoCoMo's categories are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamina.bench.conversations.session_protocol import gold_sessions
from lamina.errors import InvalidInput
from lamina.text.granularities.session import Session


@dataclass(frozen=True, slots=True)
class SessionQuestion:
    """A question and the sessions that hold its evidence; ``category`` as in LoCoMo (5 is adversarial)."""

    text: str
    gold: frozenset[str]
    category: int


@dataclass(frozen=True, slots=True)
class SessionTalk:
    """One conversation."""

    name: str
    sessions: tuple[Session, ...]
    questions: tuple[SessionQuestion, ...]


# -- the published file --------------------------------------------------------------------------

_SESSION = re.compile(r"session_(\d+)")


def read_sessions(path: Path | str) -> list[SessionTalk]:
    """All conversations of a LoCoMo file. Raises ``InvalidInput`` if it is missing or of another shape."""
    file = Path(path)
    try:
        return [_talk(sample) for sample in json.loads(file.read_text(encoding="utf-8"))]
    except OSError as error:
        raise InvalidInput(f"path={str(file)!r} cannot be read ({error}): give the path of locomo10.json") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"path={str(file)!r} is not LoCoMo's file ({error!r}): download it again") from error


def _talk(sample: Mapping[str, Any]) -> SessionTalk:
    talk, summaries = sample["conversation"], sample["session_summary"]
    numbers = sorted(int(match[1]) for key in talk if (match := _SESSION.fullmatch(key)) and talk[key])
    sessions = [
        Session(
            id=f"session_{number}",
            utterances=tuple(_utterance(turn) for turn in talk[f"session_{number}"]),
            summary=summaries.get(f"session_{number}_summary"),
        )
        for number in numbers
    ]
    questions = [
        SessionQuestion(str(item["question"]), gold_sessions(item["evidence"]), int(item["category"]))
        for item in sample["qa"]
    ]
    return SessionTalk(str(sample["sample_id"]), tuple(sessions), tuple(questions))


def _utterance(turn: Mapping[str, Any]) -> str:
    said = f"[{turn['speaker']}]: {turn['text']}"
    return f"{said}\n[image]: {turn['blip_caption']}" if turn.get("blip_caption") else said


# -- by seed -------------------------------------------------------------------------------------

# theme as it is asked for -> what is said
_THEMES: Mapping[str, Sequence[str]] = {
    "musical instruments": ("guitar", "violin", "piano", "drums", "saxophone", "cello", "flute", "trumpet"),
    "pets": ("puppy", "kitten", "parrot", "hamster", "goldfish", "rabbit", "tortoise", "canary"),
    "sports": ("tennis", "football", "swimming", "basketball", "rowing", "boxing", "hockey", "skiing"),
    "desserts": ("cheesecake", "brownies", "ice cream", "tiramisu", "pancakes", "cupcakes", "apple pie", "pudding"),
    "vehicles": ("motorbike", "van", "truck", "sailboat", "bicycle", "scooter", "tractor", "minibus"),
    "clothes": ("jacket", "scarf", "sweater", "boots", "gloves", "dress", "jeans", "raincoat"),
    "furniture": ("sofa", "wardrobe", "armchair", "bookshelf", "desk", "mattress", "bench", "cupboard"),
    "garden plants": ("roses", "tomatoes", "tulips", "lavender", "cucumbers", "sunflowers", "basil", "strawberries"),
    "European cities": ("Lisbon", "Vienna", "Dublin", "Madrid", "Prague", "Oslo", "Rome", "Budapest"),
    "illnesses": ("flu", "migraine", "bronchitis", "measles", "tonsillitis", "asthma", "food poisoning", "a cold"),
}
_SAYINGS = (
    "The {member} took all of my {day}, {name} could not believe it.",
    "{name} asked me about the {member} again and I told the whole story.",
    "I have been thinking about the {member} since {day}, {name} knows why.",
    "You should have seen me with the {member} on {day}, {name} laughed so much.",
    "It was all about the {member} this week, thanks to {name}.",
)
_SMALL_TALK = (
    "That sounds lovely, how did it go?",
    "I am so happy for you!",
    "Work was long today, but I am fine.",
    "The weather has been strange this {day}.",
    "Thanks for listening, it means a lot.",
    "How is {name} doing these days?",
    "We should meet on {day}, it has been too long.",
    "I slept badly, but coffee helps.",
)
_TELLING, _ASIDE = 0.5, 0.3  # share of turns that say something; of those, on the session's second theme
_MIX = (0.81, 0.05, 0.14)  # details, kinds, themes: LoCoMo's single-hop, temporal, adversarial; open; multi-hop
_ASK_DETAIL = "What did {name} say about the {member}?"
_ASK_THEME = "Which {theme} has {speaker} talked about?"
_ASK_KIND = "When did {speaker} mention one of the {theme}, together with {name}?"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "weekend")
_NAMES = [
    *("Alma", "Boris", "Chen", "Dilan", "Erik", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kira", "Luca", "Maya"),
    *("Nils", "Olga", "Pavel", "Quentin", "Rosa", "Sami", "Tara", "Ugo", "Vera", "Wanda", "Yusuf", "Zoe"),
]


@dataclass(frozen=True, slots=True)
class _Said:
    session: str
    speaker: str
    theme: str
    member: str
    name: str


def generate(seed: int, conversations: int, *, questions: int = 60, turns_each: int = 20) -> list[SessionTalk]:
    """By seed, with ``turns_each`` turns a session on average; the n-th of a seed is always the same."""
    rngs = [np.random.default_rng((seed, number)) for number in range(conversations)]
    return [_generated(rng, f"generated-{number}", questions, turns_each) for number, rng in enumerate(rngs)]


def _generated(rng: np.random.Generator, name: str, questions: int, turns_each: int) -> SessionTalk:
    count = int(rng.integers(19, 33))
    total = int(np.clip(count * turns_each * rng.uniform(0.9, 1.1), min(369, count * turns_each), 689))
    lengths = rng.multinomial(total - 4 * count, np.full(count, 1 / count)) + 4
    pair = ("Caroline", "Melvin")
    themes = list(_THEMES)
    popular = rng.dirichlet(np.full(len(themes), 2.0))
    said: list[_Said] = []
    sessions = []
    for place, length in enumerate(lengths.tolist(), start=1):
        lines = [f"[{pair[turn % 2]}]: {_fill(rng, _pick(rng, _SMALL_TALK))}" for turn in range(length)]
        about = rng.choice(len(themes), size=2, replace=False, p=popular)
        for turn in np.flatnonzero(rng.random(length) < _TELLING).tolist():
            theme = themes[int(about[int(rng.random() < _ASIDE)])]
            told = _Said(f"session_{place}", pair[turn % 2], theme, _pick(rng, _THEMES[theme]), _pick(rng, _NAMES))
            saying = _pick(rng, _SAYINGS).replace("{member}", told.member).replace("{name}", told.name)
            lines[turn] = f"[{told.speaker}]: {_fill(rng, saying)}"
            said.append(told)
        sessions.append(Session(f"session_{place}", tuple(lines)))
    asked = [_question(rng, said) for _ in range(questions)]
    return SessionTalk(name, tuple(sessions), tuple(asked))


def _question(rng: np.random.Generator, said: Sequence[_Said]) -> SessionQuestion:
    told = said[int(rng.integers(len(said)))]
    kind = int(rng.choice(3, p=_MIX))
    if kind == 0:
        text = _ASK_DETAIL.format(name=told.name, member=told.member)
        gold = {one.session for one in said if (one.name, one.member) == (told.name, told.member)}
    elif kind == 1:
        text = _ASK_KIND.format(speaker=told.speaker, theme=told.theme, name=told.name)
        gold = {one.session for one in said if _key(one) == _key(told)}
    else:
        text = _ASK_THEME.format(theme=told.theme, speaker=told.speaker)
        gold = {one.session for one in said if (one.speaker, one.theme) == (told.speaker, told.theme)}
    return SessionQuestion(text, frozenset(gold), (4, 3, 1)[kind])


def _key(said: _Said) -> tuple[str, str, str]:
    return said.speaker, said.theme, said.name


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _fill(rng: np.random.Generator, pattern: str) -> str:
    return pattern.replace("{day}", _pick(rng, _DAYS)).replace("{name}", _pick(rng, _NAMES))
