"""Slots: which attributes of a person have one value at a time, and when two values are the same or clash.

"Residence" has one value: a new city ends the old one. "Likes" has many: a new one ends nothing. Cosine
cannot tell these apart (MiniLM puts "two cats" and "three cats" at 0.95); the grammar can. Supersession hides
evidence, so in doubt two values count as compatible.
"""

from __future__ import annotations

import re
from functools import lru_cache

import Stemmer

from lamina.text.english.letters import UPPER
from lamina.text.english.lexicon import DISTRICTS, REGIONS, words

FUNCTIONAL = words("residence employer title marital partner phone email address diet regime age school major")
FUNCTIONAL_PREFIXES = ("favourite.", "count.", "uses.", "phone.", "email.", "address.")
IMMUTABLE = frozenset({"name", "birth", "birthplace", "origin", "birthday"})
# A value of the first slot can end a value of the others.
_REACHES = {
    "title": ("title", "role"),
    "marital": ("marital", "partner"),
    "partner": ("partner", "marital"),
    "ended": (None,),
    "switch": (None,),
    "correction": (None,),
    "role": ("role", "title"),
}
_UNPARTNERED = frozenset({"single", "divorced", "widowed", "separated"})
_PARTNERED = frozenset({"married", "engaged", "relationship"})
_DROP = words("a an the my our his her their some this that very really new old current latest own")
_SAME = {
    "color": "colour", "colors": "colour", "colours": "colour", "film": "movie", "films": "movie", "series": "show",
    "kids": "child", "kid": "child", "children": "child", "tv": "", "bike": "bicycle",
    "programme": "show",
    "houseplant": "plant", "houseplants": "plant", "veggie": "vegetarian", "cafe": "café",
}  # fmt: skip
_WORD = re.compile(r"[\w@.+-]*\w")
_NEW_NAME = re.compile(rf"\bNew (?=[{UPPER}])")
_STEM = Stemmer.Stemmer("english").stemWord


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The Porter stem of a lower-case word, after merging spellings ("kids" and "children")."""
    word = _SAME.get(word, word)
    return str(_STEM(word.removesuffix("'s"))) if word else ""


def normal(value: str) -> str:
    """A value for comparison: lower case, without determiners and edge punctuation."""
    plain = _NEW_NAME.sub("new_", value.replace("'s", ""))  # "New York" is not York
    found = [w.replace("_", " ") for w in _WORD.findall(plain.lower()) if w not in _DROP]
    return " ".join(found)


def stems(text: str) -> frozenset[str]:
    return frozenset(stem(w) for w in _WORD.findall(text.lower())) - {""}


def base(slot: str) -> str:
    """The slot without its mark of an additional value: ``employer.also`` -> ``employer``."""
    return slot.removesuffix(".also")


def is_functional(slot: str) -> bool:
    """Whether a new value ends the old one. ``employer.also`` (a second job) ends nothing."""
    if slot.startswith("plan."):
        return slot.endswith(".date")
    return slot in FUNCTIONAL or (slot.startswith(FUNCTIONAL_PREFIXES) and not slot.endswith(".also"))


def reached(slot: str) -> tuple[str | None, ...]:
    """The slots whose open facts a fact in ``slot`` must be compared with; ``None`` stands for all."""
    head = slot.partition(".")[0]
    near = _REACHES.get(slot) or _REACHES.get(head) or (slot,)
    also = tuple(f"{name}.also" for name in near if name is not None)
    return near if None in near else near + also


def same_value(slot: str, one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one == other
    if slot.startswith("phone"):
        return re.sub(r"\D", "", one) == re.sub(r"\D", "", other)
    if slot == "birth":  # "03-03", "1990", "1990-03-03": the one without a year, the other without a day
        return one.startswith(other) or one.endswith(other) or other.startswith(one) or other.endswith(one)
    if slot == "residence":
        return stems(one) == stems(other)
    return one == other or [stem(w) for w in one.split()] == [stem(w) for w in other.split()]


def clash(new_slot: str, new: str | None, old_slot: str, old: str | None) -> bool:
    """Whether two values cannot hold at once. Ranks of detail (a city and its country) do not clash."""
    if new is None or old is None or same_value(new_slot, new, old):
        return False
    if {new_slot, old_slot} == {"marital", "partner"}:
        state = new if new_slot == "marital" else old
        return state in (_UNPARTNERED if new_slot == "marital" else {"single"})
    if new_slot == "title" and old_slot == "role":
        return True
    if base(new_slot) != base(old_slot) or old_slot.endswith(".also"):
        return False
    if new_slot == "marital":
        return not ({new, old} <= _UNPARTNERED | {"relationship"}) or "relationship" in (new, old)
    if new_slot == "residence" and {(new, old), (old, new)} & DISTRICTS:
        return False
    if new_slot in ("residence", "employer", "school") or new_slot.startswith(("uses.", "favourite.")):
        a, b = stems(new), stems(old)
        if new_slot == "residence" and ("new" in a) != ("new" in b):
            return True  # York and New York
        if a <= b or b <= a:
            return False
    return True


def is_region(value: str) -> bool:
    """Whether a place is a country or a state, which a city may lie in."""
    return value in REGIONS or value.removeprefix("the ") in REGIONS
