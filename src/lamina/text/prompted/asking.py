"""Put a question to a model; an answer that is none is ``None``, silence is an error that passes through."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lamina.errors import LLMError, LLMUnavailable
from lamina.llm.base import Answer, ChatModel, Message
from lamina.text.prompted.draft import Counts

_LOG = logging.getLogger(__name__)


def ask(
    model: ChatModel, messages: Sequence[Message], schema: type[Answer], counts: Counts, *, max_tokens: int
) -> Answer | None:
    """The answer in the form of ``schema``; ``None`` if the model refused, or gave none after it was asked again.

    Raises ``LLMUnavailable`` when it could not be reached: then nothing is known of what it would have said.
    """
    counts.add(asked=1)
    try:
        answer = model.chat(messages, schema=schema, max_tokens=max_tokens)
    except LLMUnavailable:
        raise
    except LLMError as error:
        _LOG.warning("rules take over: %s", error)
        return None
    counts.add(valid=1)
    return answer
