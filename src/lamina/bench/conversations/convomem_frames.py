"""What is said in generated ConvoMem histories: a relation a category, what asserts it, what sounds alike.

Evidence and fillers are written from the same sentences (see ``convomem_generator``). One of the three forms of a
question asks for several things in so many words. Invented text, no real person.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True, slots=True)
class Frame:
    """One relation in words. ``{t}`` is the topic, ``{v}`` the value, ``{k}`` a relative, ``{q}`` the topic as asked.

    ``own`` asserts the relation of the user, ``near`` says something close to it that is no answer. ``related`` is
    what the evidence of an abstention question says, in place of ``own``.
    """

    own: tuple[str, ...]
    near: tuple[str, ...]
    questions: tuple[str, ...]
    topics: tuple[str, ...]
    values: tuple[str, ...]
    speaker: str = "User"
    asked: tuple[str, ...] = ()  # topics as questions name them, where that differs
    last_counts: bool = False
    related: tuple[str, ...] = ()

    def question(self, template: str, topic: str) -> str:
        q = self.asked[self.topics.index(topic)] if self.asked else topic
        return template.format(t=topic, q=q)


def pairs(first: str, second: str, form: str = "{} {}") -> tuple[str, ...]:
    """Every word of ``first`` with every word of ``second``."""
    return tuple(form.format(a, b) for a, b in product(first.split(), second.split()))


_THINGS = pairs(
    "folding brass second-hand wooden spare cordless heavy narrow waterproof battered tall portable",
    "ladder lamp bench cabinet drill shelf curtain radio mirror trolley stool heater clock rug toolbox vise",
    "a {} {}",
)
_BOOKS = pairs(
    "Quiet Patient Northern Hidden Seventh Borrowed Salted Distant Paper Hollow",
    "Harbour Compass Orchard Ledger Winter Bridge Letters Lantern Atlas Garden Signal Thread",
    "The {} {}",
)
_HOURS = pairs(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "07:30 08:45 10:15 12:00 14:30 16:45 17:20 18:15 19:40 20:05",
    "{} at {}",
)
_NUISANCES = pairs(
    "loud early cold endless crowded scented plastic greasy bright shared long damp",
    "music starts lunches speeches queues candles cutlery snacks lighting bathrooms detours blankets",
)
_TROUBLES = pairs(
    "hairline stubborn recurring strange hidden lasting slow second mild deep",
    "crack leak swelling rattle stain blister blockage fracture shortage rash",
    "a {} {}",
)
_FIRMS = pairs(
    "Keller Marsh Oduya Brandt Sorel Tanaka Whitby Lindqvist Moreau Castell",
    "Brothers Partners Services Works Group Associates",
    "{} {}",
)
RELATIVES = ("sister", "brother", "neighbour", "cousin", "colleague", "landlord", "aunt", "flatmate")

FRAMES: dict[str, Frame] = {
    "user_facts": Frame(
        own=(
            "I picked up {v} for the {t}.",
            "The {t} has {v} now, it took me ages to choose.",
            "I finally ordered {v}, the {t} was missing that.",
            "Yesterday I carried {v} home, it goes into the {t}.",
        ),
        near=(
            "My {k} picked up {v} for the {t}.",
            "My {k} says the {t} needs {v}, I am not convinced.",
            "I nearly bought {v} for the {t}, but put it back.",
            "Somebody on the radio ordered {v} for a {t}.",
        ),
        questions=(
            "What have I bought for the {t}?",
            "Which things did I get for the {t}?",
            "What are all the things that I bought for the {t}?",
        ),
        topics=(
            "garden shed",
            "workshop",
            "nursery",
            "sailing boat",
            "summer kitchen",
            "home office",
            "camper van",
            "greenhouse",
        ),
        values=_THINGS,
    ),
    "assistant_facts": Frame(
        own=(
            "For the {t} you could start with {v}.",
            "A sound guide to the {t} is {v}.",
            "I would read {v} before the {t}.",
            "Have a look at {v}, it covers the {t} well.",
        ),
        near=(
            "I would not bother with {v} for the {t}.",
            "Others may name {v} for the {t}, I do not.",
            "If {v} bored you, the {t} will not be saved by its sequel.",
            "You told me that your {k} read {v} before the {t}.",
        ),
        questions=(
            "Which books did you recommend for the {t}?",
            "What did you suggest that I read for the {t}?",
            "Can you list the books that you recommended for the {t}?",
        ),
        topics=(
            "pilgrimage",
            "language exam",
            "house renovation",
            "night hike",
            "job interview",
            "pottery course",
            "beekeeping season",
            "desert crossing",
        ),
        values=_BOOKS,
        speaker="Assistant",
    ),
    "changing_facts": Frame(
        own=(
            "My {t} is on {v} now.",
            "They moved my {t}, it is {v} from this week.",
            "From now on I have my {t} on {v}.",
            "The new slot of my {t} is {v}.",
        ),
        near=(
            "My {k} has a {t} on {v} now.",
            "They wanted to move my {t} to {v}, but I said no.",
            "I wish my {t} were on {v}.",
            "The {t} of my {k} was moved to {v}.",
        ),
        questions=(
            "When is my {t} at the moment?",
            "On which day and hour do I have my {t} these days?",
            "To which slot has my {t} changed by now?",
        ),
        topics=(
            "piano lesson",
            "book club",
            "physiotherapy",
            "choir rehearsal",
            "Spanish class",
            "team call",
            "swimming training",
            "chess evening",
        ),
        values=_HOURS,
        last_counts=True,
    ),
    "preferences": Frame(
        own=(
            "I can't stand {v} on a {t}.",
            "For me {v} always ruin a {t}.",
            "What I dislike most about a {t} is having {v}.",
            "Please spare me {v}, they spoil every {t}.",
        ),
        near=(
            "My {k} can't stand {v} on a {t}.",
            "I have come to like {v} on a {t}.",
            "Some say that {v} ruin a {t}, I would not mind.",
            "My {k} complained about {v} after the last {t}.",
        ),
        questions=(
            "Help me plan a {t} that suits me: what should be avoided?",
            "You arrange a {t} for me, what do you leave out?",
            "Plan a {t} for me without each of the things that spoil it for me.",
        ),
        topics=(
            "road trip",
            "dinner party",
            "museum visit",
            "train journey",
            "picnic",
            "city break",
            "birthday",
            "camping weekend",
        ),
        values=_NUISANCES,
    ),
    "implicit_connections": Frame(
        own=(
            "My {t} is giving me trouble again, this time with {v}.",
            "There is {v}, so my {t} worries me.",
            "I had my {t} looked at and they found {v}.",
            "They say my {t} has {v}, I had hoped for better news.",
        ),
        near=(
            "My {k} had a {t} looked at and they found {v}.",
            "I had my {t} looked at and they ruled out {v}.",
            "There was {v} once, but my {t} is fine again.",
            "Does a {t} with {v} ever recover, my {k} asks.",
        ),
        questions=(
            "What could make it hard for me to {q}?",
            "Should I {q}, or does something speak against it?",
            "Please list what could keep me from being able to {q}.",
        ),
        topics=("knee", "tyre", "oven", "roof", "voice", "passport photo", "wrist", "bicycle"),
        asked=(
            "run the half marathon",
            "drive to the coast",
            "host the big dinner",
            "rent out the attic",
            "sing at the wedding",
            "fly abroad next month",
            "play the violin solo",
            "join the tour of the lakes",
        ),
        values=_TROUBLES,
    ),
    "abstention": Frame(
        own=("I was quoted a price by {v} for the {t}.", "The offer for the {t} came, it is from {v}."),
        related=(
            "I asked around about the {t}, {v} were mentioned.",
            "Do you think {v} would do the {t}?",
            "I still have to call {v} about the {t}.",
            "The people of {v} never rang back about the {t}.",
        ),
        near=(
            "My {k} was quoted a price by {v} for the {t}.",
            "My {k} is happy with {v} after the {t}.",
            "I walked past the office of {v} and thought of the {t}.",
            "No offer for the {t} has come from {v}.",
        ),
        questions=(
            "Who has made me an offer for the {t}?",
            "Which company quoted me a price for the {t}?",
            "Can you list every company that quoted me a price for the {t}?",
        ),
        topics=(
            "new fence",
            "tree felling",
            "kitchen floor",
            "house move",
            "solar panels",
            "chimney repair",
            "garden wall",
            "window cleaning",
        ),
        values=_FIRMS,
    ),
}
