"""Sentences and names of the ``fresh`` split of the memory gym's histories, laid out as in ``memory_histories``.

They were written after all tuning of policies, features and recipes was over, and were then measured once.
"""

from __future__ import annotations

import re

# {e} entity, {a} attribute, {v} value, {x} event, {d} date, {p} trait
SAID: dict[str, tuple[str, ...]] = {
    "fact": (
        "By the way, the {a} belonging to {e} is called {v}.",
        "{e} owns a {a}, and everybody refers to it as {v}.",
        "If anyone asks which {a} goes with {e}, tell them {v}.",
        "I finally found out what {e} picked for a {a}, namely {v}.",
        "You can recognise {e} by the {v} {a}.",
        "Among all the options on the list, {e} settled on {v} when it came to the {a}.",
        "{v}, that was the answer when I asked {e} about the {a}.",
        "Put {v} down under {a} for {e}, please.",
        "My neighbour {e} has had the same {a} for years, {v}.",
        "I spoke to {e} today. Their {a} is {v}.",
    ),
    "change": (
        "Correction, {e} has swapped the {a} and it is {v} these days.",
        "{e} got rid of the old {a} and picked {v} instead.",
        "Please update your notes, because the {a} {e} uses has become {v}.",
        "Since yesterday the {a} for {e} is {v}.",
        "Forget what I told you about {e} and the {a}, they have moved on to {v}.",
        "After years of the same {a}, {e} switched to {v} this morning.",
        "{v} has replaced whatever {e} had before as a {a}.",
        "It turns out {e} had second thoughts about the {a} and went for {v}.",
        "New {a} for {e}, {v} this time.",
        "{e} used to have a different {a}, but from today it is {v}.",
    ),
    "event": (
        "Save the date, {d} is when {e} holds the {x}.",
        "On {d} we all drove out to watch {e} at the {x}.",
        "The {x} took place on {d}, and {e} arrived late as usual.",
        "{d} was a long day for {e}, what with the {x} and everything.",
        "I still have the ticket for the {x} I attended with {e}, dated {d}.",
        "Remember the {x} where {e} lost the keys? That happened on {d}.",
        "{e} made it through the {x} on {d} without a hitch.",
        "They have booked {e} for the {x}, which starts at noon on {d}.",
        "{x}, {d}, {e} attending.",
    ),
    "trait": (
        "Please remember that I prefer {v} as my {p}.",
        "When it comes to {p}, {v} suits me best.",
        "My {p} should always be {v}.",
        "You can assume {v} for the {p} whenever you prepare something for me.",
        "I have never been happy with any {p} other than {v}.",
        "Just so you know, {v} is the {p} I grew up with and the one I keep.",
        "Set the {p} to {v} for me from here on.",
        "Personally, I go with {v} for {p}.",
    ),
    "chatter": (
        "How is {e} getting on with the {a} these days?",
        "{e} never stops complaining about the {a}.",
        "We laughed so hard when {e} told that story about the {a}.",
        "Honestly, I could listen to {e} go on about the {a} all afternoon.",
        "Somebody ought to ask {e} whether the {a} was worth the money.",
        "What a lovely idea, a {a} like the one {e} described.",
        "Photos of {e} next to the {a} always make me smile.",
        "I ran into {e} at the supermarket and we only chatted about the weather.",
        "No idea when the next {x} will be, but {e} is already looking forward to it.",
        "Can you picture {e} organising the {x}?",
        "The last {x} was exhausting, at least {e} thought so.",
        "Thanks for putting up with my endless stories about the {x} yesterday.",
        "People keep asking me about my {p}, and I never know what to say.",
        "Sometimes I wonder whether {p} matters at all.",
        "{e} and I argued about {p} until midnight.",
        "Right, where were we, something about the {a}?",
        "Any news from {e}?",
    ),
}

NAMES: list[str] = re.findall(
    r"\w+",
    "Abena Adriana Agnes Alasdair Alina Amir Anselm Antonia Arjun Astrid Beatriz Benedikt Bertram Birgit Bogdan"
    " Brigitte Bruno Camila Caspian Cecilia Chidi Clara Clement Conrad Cosima Dagmar Dalia Damian Dariusz Deborah"
    " Desmond Dmitri Dorothea Edmund Eleanor Elif Emeka Enrique Esther Eugene Farid Felicity Fergus Fiona Florian"
    " Francesca Gareth Genevieve Giulia Gloria Gregory Gudrun Gustav Hamish Hannah Harold Heidi Hiroshi Horatio Hugo"
    " Ibrahim Ingrid Irina Isabel Ivan Jacqueline Jamal Joachim Josephine Julian Kamala Karim Katarina Kenji Klaus"
    " Kwame Lakshmi Lars Leonora Linus Lorenzo Lucia Ludwig Magda Malcolm Marguerite Mateusz Matilda Miguel Mireille"
    " Monica Nadia Natasha Nigel Nikhil Norbert Octavia Oleg Oscar Ottilie Pascal Patrick Penelope Philippa Priya"
    " Quentin Rafael Ramona Rashid Regina Roderick Rosalind Rupert Sabine Samir Sebastian Selma Stefan Sunita Svetlana"
    " Tatiana Theodore Tobias Ursula Valentin Veronica Wanda Winston Xavier Yasmin Yusuf Zoltan",
)
