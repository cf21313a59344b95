"""The models behind the OpenAI-compatible routes: the one in this process, or a server."""

from __future__ import annotations

import os

from lamina.llm.endpoint import KEYS
from lamina.server.service import Service
from lamina.server.upstreams.base import Reply, Upstream
from lamina.server.upstreams.local import Local
from lamina.server.upstreams.remote import Remote

__all__ = ["OPENAI", "Reply", "Upstream", "upstream"]

OPENAI = "https://api.openai.com/v1"


def upstream(service: Service, *, seconds: float) -> Upstream:
    """The server at ``llm_base_url``; OpenAI's, if ``llm`` is one of its models; else the service's own model.

    ``seconds``: how long a server may be silent, before its answer and in the midst of it.
    """
    settings = service.settings
    if settings.llm_base_url is None and not settings.llm.startswith("openai:"):
        return Local(service.model)
    given = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    key = given or next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    return Remote(settings.llm_base_url or OPENAI, key, seconds=seconds)
