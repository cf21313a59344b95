"""The calls of ``Memory`` over HTTP, for programs that use a Lamina service.

    from lamina.client import Client

    with Client("http://127.0.0.1:8321", token="lk_...") as memory:
        memory.add("I moved to Denver in June.", user_id="alice")
        memory.search("Where does Alice live?", filters={"user_id": "alice"})

``AsyncClient`` has the same calls as coroutines. Both need httpx and nothing else of Lamina; errors are those of
``lamina.errors``. What is unusual: every ``add`` carries an idempotency key, so that it can be sent again when no
answer came, or 429 or 503, and is still written once. ``calls`` says what is sent, ``answers`` what came back and
whether to send it again; ``sync`` and ``asynchronous`` only send.
"""

from lamina.client.asynchronous import AsyncClient
from lamina.client.sync import Client

__all__ = ["AsyncClient", "Client"]
