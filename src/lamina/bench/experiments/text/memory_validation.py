"""Sentences that write policies are never trained on and that their settings are chosen on: ``memory_sayings`` says how
they are written. They are by the same hand as the training sentences, so a score on them flatters.
"""

from __future__ import annotations

from lamina.bench.experiments.text.memory_sayings import Sayings

VALIDATION: Sayings = {
    "fact": (
        "As far as I can tell, {e} goes around with a {v} {a}.",
        "Ask {e} and you will hear that the {a} is simply {v}.",
        "{e} described the {a} as {v}.",
        "One of the things I admire about {e} is the {v} {a}.",
        "It has been established that {e} possesses a {v} {a}.",
        "The {a} used by {e} happens to be {v}.",
        "{e} would never give away the {a}, which is {v}.",
        "When I stopped by, {e} was proud of a {a}, all {v}.",
        "Funny, {e} also has a {v} {a}.",
        "{e} {a} {v}, just to keep in mind.",
        "I believe {v} would be the {a} of {e}.",
        "At home {e} has two plants, a shelf, and a {v} {a}.",
    ),
    "change": (
        "Nowadays {e} swears by {v} as a {a}.",
        "News from {e}, the {a} became {v}.",
        "{e} dropped the former {a} in favour of {v}.",
        "The {a} at {e} got replaced, and is {v} at present.",
        "You may still have it the old way, but {e} has since moved to a {v} {a}.",
        "Not anymore, {e} has a {v} {a} now.",
        "{e} tried something else and now the {a} is {v}.",
        "A different {a} was adopted by {e}, {v} to be exact.",
        "Recently {e} turned to {v} for the {a}.",
    ),
    "event": (
        "{e} celebrated the {x} on {d} with everybody.",
        "Mark {d}, because {e} has the {x} then.",
        "As planned, the {x} that {e} prepared happened on {d}.",
        "I could not come to the {x} that {e} gave on {d}.",
        "On {d}, if memory serves, {e} left early from a {x}.",
        "{e} participated in the {x} dated {d}.",
        "The {x}, to which {e} was invited, is scheduled for {d}.",
        "Guess who showed up at a {x} on {d}, {e} did.",
    ),
    "trait": (
        "In my case the {p} should be {v}.",
        "I tend to choose a {v} {p}.",
        "What suits me best is a {v} {p}.",
        "Without a {v} {p} I am not myself.",
        "I cannot do without {v} as a {p}.",
        "Everybody who knows me knows my {p} is {v}.",
        "I switched long ago and my {p} has been {v} ever since.",
    ),
    "chatter": (
        "Tell me more about {e} and that {a}, will you?",
        "Is it true what they say on the {a} of {e}?",
        "Where would {e} even find a {a}?",
        "I spent the evening listening to {e} going on about the {a}.",
        "One can discuss a {a} with {e} until midnight.",
        "Everybody was curious about the {a} when {e} arrived.",
        "{e} wants to show me the {a} next week.",
        "Looking forward to a {x} where {e} might be, who knows.",
        "It was suggested that {e} think about the {x} once more.",
        "The {a} again, dear {e}, please let it rest.",
        "I keep changing my opinion on {p}.",
        "Have a great day, and say hi to {e} and the {a}.",
        "There are so many ways to look at a {p}, right?",
        "{e} got emotional over the {a}, but never mind.",
    ),
}
