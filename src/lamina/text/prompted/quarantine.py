"""What was set aside, and a person's word on it: accept it, accept it in other words, or reject it.

A statement that the turns do not bear out, or that a tool alone made, is kept where no search finds it, tagged
``quarantined`` with the reason. Whoever owns the memory can look at it. What they accept is decided on like any other
fact (it may supersede what is known), has their trust, and replaces the memory that was set aside; the turns it was
taken from stay as they were said in either case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from lamina.cube.cube import Claim, MemCube, Scope, State
from lamina.errors import Conflict
from lamina.llm.base import Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache
from lamina.text.base import Fact, Outcome, Updater
from lamina.text.candidates import Candidate
from lamina.text.decisions import QUARANTINED, Decisions
from lamina.text.english.entities import entities, keywords
from lamina.text.prompted.draft import Draft

_PAGE = 500


def is_quarantined(cube: MemCube) -> bool:
    """Whether it is set aside and nobody has decided on it yet."""
    header = cube.header
    return QUARANTINED in header.tags and header.state is State.ARCHIVED and header.superseded is None


def reason(cube: MemCube) -> str:
    """Why it was set aside."""
    return next((tag for tag in cube.header.tags if tag != QUARANTINED), "")


def quarantined(store: Store, scope: Scope) -> Iterator[MemCube]:
    """What is set aside in ``scope``, oldest first."""
    where, cursor = {"kind": "text", "tags": {"contains": QUARANTINED}, "state": State.ARCHIVED.value}, None
    while True:
        page = store.query(scope, where, limit=_PAGE, cursor=cursor, newest_first=False)
        yield from (cube for cube in page.cubes if is_quarantined(cube))
        if (cursor := page.cursor) is None:
            return


def accept(
    store: Store,
    embedder: Embedder,
    updater: Updater,
    indexes: IndexCache,
    cube: MemCube,
    *,
    at: datetime,
    text: str | None = None,
) -> Outcome:
    """Take ``cube`` as true, or ``text`` instead of it; what became of it, decided by ``updater``.

    Raises ``Conflict`` if it is not in quarantine (any more), or came from no turn: an import, or what an adapter said.
    """
    _check(cube)
    if not cube.header.provenance.sources:
        raise Conflict(f"memory {cube.id} was taken from no message: add() its words as your own if you believe them")
    told = cube.text if text is None else text
    vector = embedder.encode([told])[0]
    cited = tuple(turn for id, _ in cube.header.lineage.derived_from if (turn := store.get(id)) is not None)
    scope = cube.header.scope
    with store.transaction() as tx:
        current = tx.newest(cube.id)
        _check(current or cube)
        draft = Draft(fact=_fact(cube, told), cites=(0,), model=cube.header.provenance.model)
        draft = replace(draft, prompt_hash=cube.header.provenance.prompt_hash)
        item = Candidate(draft, cited, vector, cube.header.provenance.extractor, vouched=True)
        (outcome,) = Decisions(tx, store, updater, scope).apply([item], indexes.get(store, scope))
        tx.close(cube.id, at=at, by=outcome.cube.id, action="accept", actor="user", reason="accepted by a person")
    return outcome


def reject(store: Store, cube: MemCube, *, at: datetime) -> None:
    """Close ``cube``, and nothing else. Raises ``Conflict`` if it is not in quarantine (any more)."""
    _check(cube)
    with store.transaction() as tx:
        tx.close(cube.id, at=at, action="reject", actor="user", reason="rejected by a person")


def _check(cube: MemCube) -> None:
    if not is_quarantined(cube):
        raise Conflict(f"memory {cube.id} is not in quarantine: list what is (quarantined).")


def _fact(cube: MemCube, text: str) -> Fact:
    """The statement as a fact again. Of another wording only the attribute it is about is kept: rules read no value."""
    header, same = cube.header, text == cube.text
    source = header.provenance.sources[-1]
    claim = header.claim or Claim("user")
    return Fact(
        text=text,
        start=source.start,
        end=source.end,
        semantic_type=header.semantic_type,
        claim=claim if same else Claim(claim.subject, claim.slot),
        valid_from=header.valid_from if same else None,
        valid_to=header.valid_to if same else None,
        entities=header.entities if same else entities(text),
        keywords=header.keywords if same else keywords(text),
        extractor=header.provenance.extractor,
    )
