"""``Memory``: the front door for agents. Remembers what was said, keeps it current, finds it again.

    from lamina import Memory

    memory = Memory()
    memory.add("I moved from Boston to Denver in June.", user_id="alice")
    memory.search("Where does Alice live?", filters={"user_id": "alice"})

Calls, parameters and results follow mem0's, so that a user switches by changing the import. What is
added: ``as_of`` (ask any past state), ``explain`` (what a score is made of), ``forget`` (erase, not just
hide), ``add_batch``. Works with no key and no network; every method is thread-safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lamina.cube.cube import MemCube, Scope, now
from lamina.errors import Conflict, InvalidInput, NotFound
from lamina.llm.base import ChatModel, Embedder
from lamina.settings import Settings
from lamina.store.base import Store, Write
from lamina.store.index import IndexCache
from lamina.text import arguments, removal, reranking
from lamina.text.arguments import Moment
from lamina.text.base import Extractor, Hit, Pipeline, Retriever, Updater
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.prompted import quarantine
from lamina.text.prompted.echo import INJECTED
from lamina.text.repeats import write_once
from lamina.text.reranking import Reranker
from lamina.text.results import history_dicts, hit_dict, memory_dict, outcome_dict
from lamina.text.sessions import SessionClock
from lamina.text.tools import Tools
from lamina.text.turns import Messages, parse_messages

_UNSET: Any = object()
# Names in the graph are listed by it, and caches and adapters by the kernel, not as memories.
_MEMORIES = {"AND": [{"kind": "text"}, {"semantic_type": {"ne": "entity"}}]}


class Memory:
    """A lasting memory in one file, or on a server (``"postgresql://..."``). ``path=None`` uses the user's data folder;
    ``":memory:"`` keeps nothing.

    ``pipeline`` names a published way to build and read text memory (``lamina.text.pipelines``; default: hybrid
    search with rules or, where a capable chat model is configured, with facts that it writes). ``extractor``,
    ``updater`` and ``retriever`` replace single parts of it; ``store``, ``embedder`` and ``llm`` the tools it works
    with (SQLite, MiniLM, and no chat model unless the settings name a capable one). Models load at first use, so
    constructing is instant.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        store: Store | None = None,
        embedder: Embedder | None = None,
        llm: ChatModel | None = None,
        pipeline: str | None = None,
        extractor: Extractor | None = None,
        updater: Updater | None = None,
        retriever: Retriever | None = None,
        reranker: Reranker | None = None,
        settings: Settings | None = None,
    ) -> None:
        from lamina.llm import embedder as embedder_from
        from lamina.store.opening import open_store
        from lamina.text import pipelines

        self.settings = settings or Settings()
        self.embedder: Embedder = embedder or embedder_from(self.settings.embedder)
        place, tenant = path or self.settings.database_path, self.settings.tenant
        self.store: Store = store or open_store(
            place, tenant=tenant, embedder=self.embedder.name, durable=self.settings.durable
        )
        self.indexes = IndexCache()
        self.llm = llm or _capable_model(self.settings)
        wishes = self.settings.custom_instructions
        tools = Tools(self.store, self.embedder, self.indexes, self.llm, wishes)
        others = {"memlora": lambda tools: _memlora(tools, self.settings.tenant)}
        built = pipelines.build(pipeline or self.settings.pipeline, tools, others)
        self.pipeline = replace(
            built,
            extractor=extractor or built.extractor,
            updater=updater or built.updater,
            retriever=retriever or built.retriever,
        )
        self._ingestion = Ingestion(self.store, self.embedder, self.pipeline, self.indexes)
        self.reranker = reranker or reranking.reranker(self.settings.reranker, self.llm)
        self._sessions = SessionClock(self.store)
        self._tenant = self.settings.tenant

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From mem0's configuration dict. Its vector_store path (or history_db_path) becomes the database;
        embedder and llm providers map to Lamina's; unknown keys raise ``InvalidInput``."""
        from lamina.text.mem0_config import settings_from_mem0

        return cls(settings=settings_from_mem0(config))

    # -- writing ---------------------------------------------------------------------------------

    def add(
        self,
        messages: Messages,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Moment | None = None,
        expiration_date: Moment | None = None,
        infer: bool = True,
        idempotency_key: str | None = None,
        sensitivity: Sequence[str] = (),
        memory_type: str | None = None,
        prompt: str | None = None,
    ) -> dict[str, Any]:
        """Remember a message, a message dict, or a list of them.

        Every message is kept verbatim as a ``turn``; with ``infer`` facts are taken from it, compared with
        what is known, and added, merged or made to supersede. ``timestamp`` is when it was said (default:
        now), to which "last week" refers. Returns ``{"results": [{"id", "memory", "event", ...}]}`` with
        events ADD, UPDATE (with ``previous_memory``), DELETE, NONE. The same call again with the same
        ``idempotency_key`` writes nothing. ``sensitivity``: kinds of what was taken out of the messages before, such as
        "email"; no weights learn what has any. Raises ``InvalidInput``; ``Conflict`` for a key that came with other
        words.
        """
        if memory_type is not None or prompt is not None:
            name, value = ("memory_type", memory_type) if memory_type is not None else ("prompt", prompt)
            raise InvalidInput(
                f"{name}={arguments.short(value)}: not supported; what a model is to note is said once for all, by"
                " custom_instructions in the settings or in from_config()."
            )
        item = {
            "messages": messages,
            "user_id": user_id,
            "agent_id": agent_id,
            "run_id": run_id,
            "metadata": metadata,
            "timestamp": timestamp,
            "expiration_date": expiration_date,
            "idempotency_key": idempotency_key,
            "sensitivity": sensitivity,
        }
        return self.add_batch([item], infer=infer)[0]

    def add_batch(self, items: Sequence[Mapping[str, Any]], *, infer: bool = True) -> list[dict[str, Any]]:
        """Many ``add`` calls in one transaction and one embedding batch: all are stored, or none.

        Each item is a dict of ``add``'s arguments (``messages`` and ids, ``metadata``, ``timestamp``,
        ``expiration_date``, ``idempotency_key``); one result per item, in order.
        """
        if not isinstance(infer, bool):
            raise InvalidInput(f"infer={arguments.short(infer)}: pass True or False.")
        batches = [self._batch(number, item, infer) for number, item in enumerate(items)]
        outcomes = write_once(self.store, self._ingestion.write, batches)
        return [{"results": [outcome_dict(outcome) for outcome in row]} for row in outcomes]

    def retry(self) -> dict[str, int]:
        """Read the turns that wait for a language model (a pipeline's, that could not be reached when they came).

        ``{"extracted": n, "waiting": m}``: turns read by this call, and turns that still wait. Several processes
        may call it at once; every fact is written once. Never raises because the model is away; a pipeline
        without a model reads none of them.
        """
        return self._ingestion.pending.retry(self._tenant)

    def _batch(self, number: int, item: Mapping[str, Any], infer: bool) -> Batch:
        given = {"messages", "metadata", "timestamp", "expiration_date", "idempotency_key", "sensitivity"}
        allowed = {*arguments.IDENTITY, *given}
        if not isinstance(item, Mapping) or "messages" not in item or not set(item) <= allowed:
            raise InvalidInput(
                f"items[{number}]={arguments.short(item)}: pass a dict with 'messages' and any of {sorted(allowed)}."
            )
        scope = arguments.scope_of(self._tenant, item)
        at = arguments.moment("timestamp", item.get("timestamp"))
        said = parse_messages(item["messages"], at=at, user=scope.user, agent=scope.agent)
        said = [turn for turn in said if turn.role != "system"]  # instructions are no memories
        turns, context = self._sessions.place(said, scope)
        key = item.get("idempotency_key")
        return Batch(
            scope=scope,
            turns=turns,
            metadata=arguments.metadata_dict(item.get("metadata")),
            expires=arguments.moment("expiration_date", item.get("expiration_date"), end_of_day=True),
            infer=infer,
            context=context,
            key=None if key is None else arguments.named("idempotency_key", key, 255),
            sensitivity=tuple(arguments.named("sensitivity", label, 255) for label in item.get("sensitivity", ())),
        )

    def update(
        self,
        memory_id: str,
        text: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expiration_date: Moment | None = _UNSET,
        data: str | None = None,
    ) -> dict[str, Any]:
        """A new version of a memory; the old one stays in ``history`` and ``as_of``.

        Correcting a fact also retires the verbatim turn it came from, so that search does not bring the
        wrong wording back; correcting a turn retires the facts taken from it. Metadata and expiry are notes
        about a memory, not knowledge: changing only them holds for the past too. ``data`` is mem0's older
        name of ``text``. Raises ``NotFound``, and ``Conflict`` for a memory that was deleted or superseded.
        """
        text = text if text is not None else data
        if text is None and metadata is None and expiration_date is _UNSET:
            raise InvalidInput("update() was given nothing to change: pass text, metadata or expiration_date.")
        old = self._newest(memory_id)
        if old.header.superseded is not None:
            raise Conflict(f"memory {memory_id} was deleted or superseded: add() what holds now instead.")
        if quarantine.is_quarantined(old) and text is not None:
            accepted = self.accept(memory_id, text)
            return {"message": f"Memory {memory_id} accepted in other words as {accepted['id']}", "version": 1}
        header = replace(old.header, version=old.header.version + 1)
        if metadata is not None:
            header = replace(header, metadata=arguments.metadata_dict(metadata))
        if expiration_date is not _UNSET:
            header = replace(header, expires=arguments.moment("expiration_date", expiration_date, end_of_day=True))
        if text is None or text == old.text:
            with self.store.transaction() as tx:
                write = Write(MemCube(header, old.payload), self.store.vector(old.id), action="update")
                tx.revise(write, expect=old.header.version)
        else:
            removal.correct(self.store, self.embedder, old, header, arguments.memory_text(text))
            self.mend(old)
        return {"message": f"Memory {memory_id} updated", "version": header.version}

    def delete(self, memory_id: str) -> dict[str, Any]:
        """Take a memory out of use. It stays in ``history`` and ``as_of``; ``forget`` erases instead.

        Deleting a fact also retires the turn it was taken from; deleting a turn, the facts taken from it.
        """
        cube = self._newest(memory_id)
        if quarantine.is_quarantined(cube):
            quarantine.reject(self.store, cube, at=now())
        else:
            removal.delete(self.store, cube, now())
        self.mend(cube)
        return {"message": f"Memory {memory_id} deleted"}

    def restore(self, memory_id: str) -> dict[str, Any]:
        """Take back a deletion or a supersession: the memory is open again, and so is what was closed with it.

        What superseded it stays open too: delete that one if it was wrong. Raises ``NotFound`` (also for what was
        forgotten), and ``Conflict`` for a memory that is open.
        """
        cube = self._newest(memory_id)
        if cube.header.superseded is None:
            held = quarantine.is_quarantined(cube)
            remedy = "it is set aside: accept() it" if held else "there is nothing to restore"
            raise Conflict(f"memory {memory_id} is open: {remedy}.")
        restored = removal.restore(self.store, cube)
        self.mend(cube)
        return {"message": f"Memory {memory_id} restored", "restored": [one.id for one in restored]}

    def quarantined(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """Statements that were set aside: their turns do not bear them out, or a tool alone made them.

        No search finds them. ``accept`` believes one, ``delete`` rejects it. Each row has the ``reason``.
        """
        scope = arguments.scope_of(self._tenant, {"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        found = quarantine.quarantined(self.store, scope)
        return {"results": [memory_dict(cube) | {"reason": quarantine.reason(cube)} for cube in found]}

    def accept(self, memory_id: str, text: str | None = None) -> dict[str, Any]:
        """Believe a statement that was set aside, or ``text`` in its place; what it then did to what is known.

        Raises ``NotFound``, and ``Conflict`` for a memory that is not in quarantine.
        """
        cube = self._newest(memory_id)
        told = None if text is None else arguments.memory_text(text)
        tools = self.store, self.embedder, self.pipeline.updater, self.indexes
        outcome = quarantine.accept(*tools, cube, at=now(), text=told)
        self.mend(cube)
        return outcome_dict(outcome)

    def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """``delete`` everything of an owner. At least one id is required: there is no "everybody"."""
        scope = arguments.scope_of(self._tenant, {"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
        closed = removal.delete_all(self.store, scope, now())
        self._sessions.forget()
        return {"message": f"{closed} memories deleted", "deleted": closed}

    def forget(self, memory_id: str, *, reason: str = "asked to forget") -> dict[str, Any]:
        """Erase a memory for good: every version, the turns it came from, and all that was taken from them.

        Text, vectors, full-text entries and index files are gone when this returns; the log keeps ids, time
        and reason. Returns the ids that were erased. Raises ``NotFound``.
        """
        arguments.clean_text("reason", reason, 1000)
        cube = self._newest(memory_id)
        gone = self._erase([cube.id], reason)
        self.mend(cube)
        return {"forgotten": gone}

    def reset(self) -> dict[str, Any]:
        """Forget everything of this tenant."""
        ids = dict.fromkeys(cube.id for cube in removal.everything(self.store, Scope(tenant=self._tenant)))
        return {"forgotten": self._erase(list(ids), "reset")}

    def _erase(self, ids: list[str], reason: str) -> list[str]:
        gone = removal.forget(self.store, self.embedder, ids, reason=reason)
        self.indexes.drop(self.store)
        self._sessions.forget()
        return gone

    def mend(self, cube: MemCube) -> None:
        """A memory was changed outside the write path: sessions are read anew, connectors fill their gaps.

        Verbs of this class do it themselves; who changes the store beside them (``lamina.kernel``) calls it.
        """
        self._sessions.forget()
        for connector in self.pipeline.connectors:
            connector.mend(cube.header.scope)

    # -- reading ---------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        *,
        top_k: int = 20,
        filters: Mapping[str, Any] | None = None,
        threshold: float = 0.1,
        rerank: bool = False,
        explain: bool = False,
        reference_date: Moment | None = None,
        as_of: Moment | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> dict[str, Any]:
        """The memories that answer ``query``, best first: ``{"results": [{"id", "memory", "score", ...}]}``.

        ``filters`` holds the owner's ids and any metadata conditions (see docs); ``as_of`` asks what was
        known then (a bare date includes that day); ``reference_date`` is what "last week" in the query
        refers to; ``rerank`` asks the configured reranker for a second look; ``explain`` adds the parts of each
        score; hits with a smaller cosine than ``threshold`` and no common word are dropped.
        """
        ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        scope, where = arguments.scope_and_filter(self._tenant, filters, ids)
        hits = self.hits(
            query,
            scope,
            top_k=top_k,
            where=where,
            threshold=threshold,
            rerank=rerank,
            as_of=arguments.moment("as_of", as_of, end_of_day=True),
            reference=arguments.moment("reference_date", reference_date),
        )
        INJECTED.remember_hits(scope, hits)  # a prompt may bring them back
        return {"results": [hit_dict(hit, explain=explain) for hit in hits]}

    def hits(
        self,
        query: str,
        scope: Scope,
        *,
        top_k: int = 20,
        where: Mapping[str, Any] | None = None,
        threshold: float = 0.1,
        rerank: bool = False,
        as_of: datetime | None = None,
        reference: datetime | None = None,
    ) -> list[Hit]:
        """``search`` for programs that want cubes rather than dictionaries."""
        query = arguments.query_text(query)
        k = arguments.positive("top_k", top_k, 10_000)
        floor = arguments.fraction("threshold", threshold)
        if rerank and self.reranker is None:
            raise InvalidInput("rerank=True, but no reranker is set: Memory(reranker=...) or LAMINA_RERANKER.")
        wide = k * reranking.POOL if rerank else k
        allow = self.store.keys(scope, where) if where else None
        vector = self.embedder.encode([query])[0]
        found = self.pipeline.retriever.search(
            query, vector, self.store, scope, k=wide, allow=allow, as_of=as_of, reference=reference
        )
        kept = [hit for hit in found if hit.most("dense") >= floor or hit.most("lexical") > 0 or _led_to(hit)]
        return reranking.reranked(kept, query, k, self.reranker) if rerank and self.reranker else kept

    def get(self, memory_id: str) -> dict[str, Any] | None:
        """One memory, deleted or not, or ``None``."""
        cube = self.store.get(arguments.clean_text("memory_id", memory_id, 255))
        return memory_dict(cube) if cube and cube.header.scope.tenant == self._tenant else None

    def get_all(
        self,
        *,
        filters: Mapping[str, Any] | None = None,
        top_k: int = 20,
        as_of: Moment | None = None,
        cursor: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
    ) -> dict[str, Any]:
        """Memories of an owner, newest first; ``cursor`` of one answer continues it in the next."""
        ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        scope, where = arguments.scope_and_filter(self._tenant, filters, ids)
        page = self.store.query(
            scope,
            {"AND": [_MEMORIES, where]} if where else _MEMORIES,
            as_of=arguments.moment("as_of", as_of, end_of_day=True),
            limit=arguments.positive("top_k", top_k, 10_000),
            cursor=cursor,
        )
        return {"results": [memory_dict(cube) for cube in page.cubes], "cursor": page.cursor}

    def history(self, memory_id: str) -> list[dict[str, Any]]:
        """Every change of a memory, oldest first, with old text, new text, event and reason."""
        self._newest(memory_id)
        return history_dicts(self.store, memory_id)

    # -- life ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the files. Nothing is pending: every write was durable when its call returned."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    def _newest(self, memory_id: str) -> MemCube:
        cube = self.store.get(arguments.clean_text("memory_id", memory_id, 255))
        if cube is None or cube.header.scope.tenant != self._tenant:
            raise NotFound(
                f"memory_id={arguments.short(memory_id)}: no such memory. List what there is (get_all, lamina list)."
            )
        return cube


def _led_to(hit: Hit) -> bool:
    """Found by something else than resemblance: what it replaced, or a link or relation that leads to it."""
    return any(part.partition(" ")[0].rstrip(":") in ("succession", "link", "graph") for part in hit.parts)


def _memlora(tools: Tools, tenant: str) -> Pipeline:
    """The pipeline of the tenant's operation experts, from a room that text does not know."""
    from lamina.parameter.experts.stored import memlora

    return memlora(tools, tenant)


def _capable_model(settings: Settings) -> ChatModel | None:
    """The chat model of the settings, if it can be trusted with more than small talk: the packaged one cannot."""
    from lamina.llm import chat_model

    if settings.llm == Settings.model_fields["llm"].default:
        return None
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    return chat_model(settings.llm, base_url=settings.llm_base_url, api_key=key)
