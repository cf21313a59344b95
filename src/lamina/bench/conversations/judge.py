"""A model as judge: is an answer right, given the reference? For numbers that say who judged, and how.

Judges are lenient with vague answers (one accepted 63 % of deliberately vague wrong ones on LoCoMo), so the prompt
asks for every part of the reference and names the usual excuses. The verdict comes as JSON that is validated; the
model and the SHA-256 of the prompt are printed with every number, because either changes it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from pydantic import BaseModel

from lamina.llm.base import ChatModel, Message

PROMPT = """\
You grade answers to questions about a long conversation. Compare the answer with the reference.
right: it says everything the reference says, in any wording; the same date or amount in another form is right, and \
so are further details that do not contradict it.
wrong: it contradicts the reference, leaves out a part of it, is so vague that a different reference would fit as \
well, names several possibilities of which one fits, or says that it does not know."""
PROMPT_SHA256 = sha256(PROMPT.encode()).hexdigest()


class Verdict(BaseModel):
    """What the judge says."""

    verdict: Literal["right", "wrong"]


def is_right(model: ChatModel, question: str, reference: str, answer: str) -> bool:
    """The verdict of ``model``. Raises ``LLMError`` if it gives none."""
    asked: list[Message] = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": f"Question: {question}\nReference: {reference}\nAnswer: {answer}"},
    ]
    return model.chat(asked, schema=Verdict, max_tokens=64).verdict == "right"


def definition(name: str) -> str:
    """What goes with every judged number."""
    return (
        f"judged: share of answers of categories 1-4 that {name} calls right against the reference, prompt sha256 "
        f"{PROMPT_SHA256[:12]}; strict about vague and partial answers, so it is no other benchmark's judge."
    )
