"""What every store must do. Subclass ``StoreContract`` and give it an ``open_store`` fixture to run it all.

    class TestSqlite(StoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: SqliteStore(tmp_path / "memory.db", embedder="unit")

``open_store()`` called again in the same test opens the same data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from lamina.cube.cube import (
    Claim,
    Header,
    Lineage,
    MemCube,
    Provenance,
    Scope,
    Source,
    State,
    Usage,
    Utterance,
    now,
)
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.errors import Conflict, InvalidInput, LaminaError, NotFound
from lamina.store.base import Store, Write

ALICE = Scope(user="alice")
BOB = Scope(user="bob")
T0 = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Opener = Callable[[], Any]


def cube(text: str = "Alice lives in Boston", **header: Any) -> MemCube:
    return MemCube(Header(**{"scope": ALICE, **header}), TextPayload(text))


def unit(seed: int, dimension: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def insert(store: Store, *cubes: MemCube) -> None:
    with store.transaction() as tx:
        tx.insert([Write(one) for one in cubes])


def close(store: Store, one: MemCube, at: datetime, **how: Any) -> None:
    with store.transaction() as tx:
        tx.close(one.id, at=at, **how)


def revise(store: Store, old: MemCube, text: str, **header: Any) -> MemCube:
    version = old.header.version
    new = MemCube(replace(old.header, version=version + 1, **header), TextPayload(text))
    with store.transaction() as tx:
        tx.revise(Write(new, action="update"), expect=version)
    return new


def ids(store: Store, scope: Scope = ALICE, where: dict[str, Any] | None = None, **options: Any) -> list[str]:
    return [one.id for one in store.query(scope, where, **options).cubes]


class StoreContract:
    @pytest.fixture
    def open_store(self) -> Opener:
        raise NotImplementedError("give the contract a store to test")

    @pytest.fixture
    def store(self, open_store: Opener) -> Any:
        with open_store() as store:
            yield store
            assert store.verify() == []

    # -- what goes in comes out ------------------------------------------------------------------

    def test_every_field_of_a_header_comes_back(self, store: Store) -> None:
        full = Header(
            semantic_type="preference", scope=Scope("acme", "alice", "helper", "run-7"), created=T0, recorded=T0 + DAY,
            valid_from=T0 - DAY, valid_to=T0 + 900 * DAY, expires=T0 + 9000 * DAY,
            provenance=Provenance((Source("turn", 3, 9),), "rules", "model", "abc"),
            lineage=Lineage((("turn", 1), ("other", 4)), "extract"), utterance=Utterance("s", 3, "Älice", "user"),
            claim=Claim("Alice", "residence", "boston", polarity=False, modality="plan"), state=State.FROZEN,
            trust="tool", access=("text",), tags=("a", "ü"), keywords=("k",), entities=("Boston",), importance=0.25,
            usage=Usage(3, T0), metadata={"n": {"x": [1, 2.5, None, True, "ö\"\\"]}, "ключ.с.точкой": ""},
        )  # fmt: skip
        original = MemCube(full, TextPayload('Zeile\n"zwei" 東京 🎈'))
        insert(store, original)
        assert store.get(full.id) == original
        assert store.versions(full.id) == [original]

    def test_tensors_come_back(self, store: Store) -> None:
        payload = TensorPayload.from_numpy(
            {"k": np.arange(12, dtype=np.float16).reshape(3, 4), "v": np.zeros((0, 2), np.int8)},
            Fingerprint("llama", "w", "t", "float16"),
        )
        original = MemCube(Header(scope=ALICE, kind="activation"), payload)
        insert(store, original, cube("text beside it"))
        assert store.get(original.id) == original

    def test_unknown_ids_are_none_and_empty(self, store: Store) -> None:
        assert store.get("nobody") is None
        assert store.vector("nobody") is None
        assert store.versions("nobody") == []
        assert store.last_change() == 0
        assert store.query(ALICE).cubes == []
        assert list(store.changes(ALICE)) == list(store.events()) == store.scopes("default") == []

    def test_data_outlives_the_store(self, open_store: Opener) -> None:
        one = cube()
        with open_store() as store, store.transaction() as tx:
            tx.insert([Write(one, unit(1))])
        with open_store() as store:
            assert store.get(one.id) == one
            np.testing.assert_array_equal(store.vector(one.id), unit(1))

    # -- versions --------------------------------------------------------------------------------

    def test_revise_writes_a_version_and_closes_the_old_one(self, store: Store) -> None:
        first = cube(recorded=T0)
        insert(store, first)
        second = revise(store, first, "Alice lives in Denver", recorded=T0 + DAY)
        old, new = store.versions(first.id)
        assert new == second == store.get(first.id)
        assert old.text == first.text
        assert (old.header.superseded, old.header.superseded_by) == (T0 + DAY, first.id)
        assert store.get(first.id, version=1) == old
        assert store.get(first.id, version=3) is None

    def test_a_stale_version_conflicts_and_names_both(self, store: Store) -> None:
        first = cube()
        insert(store, first)
        revise(store, first, "two")
        with pytest.raises(Conflict, match=r"version 2, not 1"):
            revise(store, first, "lost update")
        assert [one.text for one in store.versions(first.id)] == [first.text, "two"]

    def test_a_version_must_follow_its_predecessor(self, store: Store) -> None:
        first = cube()
        insert(store, first)
        for wrong in (replace(first.header, version=3), replace(first.header, version=2, scope=Scope("other"))):
            with pytest.raises(InvalidInput, match="cannot follow"), store.transaction() as tx:
                tx.revise(Write(MemCube(wrong, TextPayload("x"))), expect=1)
        with pytest.raises(NotFound, match="nobody"), store.transaction() as tx:
            tx.revise(Write(cube("x", id="nobody", version=2)), expect=1)

    def test_an_existing_id_conflicts(self, store: Store) -> None:
        one = cube()
        insert(store, one)
        for writes in ([Write(cube()), Write(one)], [Write(two := cube()), Write(two)]):
            with pytest.raises(Conflict, match="exists"), store.transaction() as tx:
                tx.insert(writes)
        assert ids(store) == [one.id]

    def test_close_keeps_the_memory_in_history(self, store: Store) -> None:
        one = cube(recorded=T0)
        insert(store, one)
        close(store, one, T0 + DAY, by="successor", valid_to=T0 + DAY, reason="moved")
        closed = store.get(one.id)
        assert closed is not None
        assert closed.header == replace(one.header, superseded=T0 + DAY, superseded_by="successor", valid_to=T0 + DAY)
        assert ids(store) == []
        assert ids(store, closed=True) == [one.id]
        with pytest.raises(Conflict, match="closed at 2024-01-02"):
            close(store, one, T0 + 2 * DAY)
        with pytest.raises(NotFound, match="nobody"), store.transaction() as tx:
            tx.close("nobody", at=T0)

    def test_revising_a_closed_memory_opens_it_again(self, store: Store) -> None:
        one = cube(recorded=T0)
        insert(store, one)
        close(store, one, T0 + DAY)
        back = revise(store, one, one.text, recorded=T0 + 3 * DAY)
        assert store.query(ALICE).cubes == [back]
        assert store.versions(one.id)[0].header.superseded == T0 + DAY
        assert ids(store, as_of=T0 + 2 * DAY) == []

    # -- transactions ----------------------------------------------------------------------------

    def test_an_exception_undoes_everything(self, store: Store) -> None:
        kept = cube("kept")
        insert(store, kept)
        change = store.last_change()
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            tx.insert([Write(cube("lost"), unit(1))])
            tx.close(kept.id, at=now())
            tx.forget([kept.id])
            raise ZeroDivisionError
        assert store.query(ALICE).cubes == [kept]
        assert store.match("lost", ALICE) == []
        assert store.last_change() == change
        assert len(list(store.events())) == 1

    def test_a_refused_write_leaves_the_transaction_usable(self, store: Store) -> None:
        one, two = cube("one"), cube("two")
        insert(store, one)
        with store.transaction() as tx:
            with pytest.raises(Conflict):
                tx.insert([Write(two), Write(one)])
            with pytest.raises(InvalidInput):
                tx.insert([Write(two, unit(1), details={"not": {"json"}})])
            tx.insert([Write(two, unit(2, 4))])
        assert {one.id, two.id} == set(ids(store))
        assert [event.seq for event in store.events()] == [1, 2]

    def test_a_transaction_sees_its_own_writes_and_nobody_else_does(self, store: Store) -> None:
        one = cube(claim=Claim("Alice", "residence"))
        with store.transaction() as tx:
            tx.insert([Write(one)])
            assert tx.newest(one.id) == one
            assert tx.claims(ALICE, "ALICE") == [one]
            assert store.get(one.id) is None
            assert ids(store) == []
        assert store.get(one.id) == one

    def test_a_transaction_ends_with_its_block_and_does_not_nest(self, store: Store) -> None:
        with store.transaction() as tx:
            with pytest.raises(InvalidInput, match="open already"), store.transaction():
                pass
            with pytest.raises(InvalidInput, match="open already"):
                store.verify()
        with pytest.raises(InvalidInput, match="has ended"):
            tx.insert([Write(cube())])

    def test_bad_values_are_refused_and_nothing_is_written(self, store: Store) -> None:
        bad: list[Write] = [
            Write(cube("\ud800")),
            Write(cube(metadata={"x": float("nan")})),
            Write(cube(metadata={"x": {1, 2}})),
            Write(cube(metadata={"x": "\0"})),
            Write(cube(recorded=datetime(2024, 1, 1))),
            Write(cube(kind="activation")),
            Write(cube(), reason="\ud800"),
            Write(cube(), actor=None),  # type: ignore[arg-type]
            Write(cube(), details={"x": float("inf")}),
        ]
        for write in bad:
            with pytest.raises(InvalidInput), store.transaction() as tx:
                tx.insert([Write(cube("fine")), write])
        assert ids(store) == []
        assert store.last_change() == 0

    def test_text_that_looks_like_an_escaped_nul_is_fine(self, store: Store) -> None:
        one = cube(metadata={"path": "C:\\u0000", "other": "\\\\u0000"})
        insert(store, one)
        assert store.get(one.id) == one

    # -- scopes ----------------------------------------------------------------------------------

    def test_a_scope_narrows_by_every_id_it_names(self, store: Store) -> None:
        scopes = [Scope("t", user, agent, run) for user in (None, "u") for agent in (None, "a") for run in (None, "r")]
        cubes = {scope: cube(str(scope), scope=scope) for scope in [*scopes, Scope("other", "u", "a", "r")]}
        insert(store, *cubes.values())
        for asked in [*scopes, Scope("other"), Scope("nobody")]:
            expected = {
                one.id
                for scope, one in cubes.items()
                if scope.tenant == asked.tenant
                and asked.user in (None, scope.user)
                and asked.agent in (None, scope.agent)
                and asked.run in (None, scope.run)
            }
            assert set(ids(store, asked)) == expected
            assert {change.cube.id for change in store.changes(asked) if change.cube} == expected
            assert len(store.keys(asked, {"kind": "text"})) == len(expected)
            assert len(store.match("Scope", asked)) == len(expected)
        assert dict(store.scopes("t")) == dict.fromkeys(scopes, 1)
        close(store, cubes[scopes[0]], now())
        assert dict(store.scopes("t"))[scopes[0]] == 0

    def test_the_store_of_a_tenant_holds_what_is_the_tenants(self, store: Store) -> None:
        mine, other = cube("mine", scope=Scope("t", "u")), cube("other", scope=Scope("o", "u"))
        insert(store, mine, other)
        narrow = store.as_tenant("t")
        assert narrow.get(mine.id) == mine and ids(narrow, Scope("t")) == [mine.id]
        insert(narrow, more := cube("more", scope=Scope("t", "u")))
        assert set(ids(store.as_tenant(None), Scope("t"))) == {mine.id, more.id}

    @pytest.mark.parametrize("scope", [Scope(tenant=""), None, "alice"])
    def test_no_read_without_a_tenant(self, store: Store, scope: Any) -> None:
        for read in (
            lambda: store.query(scope),
            lambda: store.keys(scope, {"a": 1}),
            lambda: list(store.changes(scope)),
            lambda: store.match("x", scope),
        ):
            with pytest.raises(InvalidInput, match="tenant"):
                read()

    def test_claims_are_of_exactly_this_scope_subject_and_slot(self, store: Store) -> None:
        home = cube("home", claim=Claim("Alice Straße", "residence"), recorded=T0 + DAY)
        work = cube("work", claim=Claim("ALICE STRASSE", "employer"), recorded=T0)
        vague = cube("vague", claim=Claim("alice strasse"))
        others = [
            cube("run", claim=Claim("Alice Straße", "residence"), scope=replace(ALICE, run="r")),
            cube("bob", claim=Claim("Bob", "residence")),
            cube("expired", claim=Claim("Alice Straße", "residence"), expires=T0),
            cube("archived", claim=Claim("Alice Straße", "residence"), state=State.ARCHIVED),
            closed := cube("closed", claim=Claim("Alice Straße", "residence")),
        ]
        insert(store, home, work, vague, *others)
        close(store, closed, now())
        with store.transaction() as tx:
            assert tx.claims(ALICE, "alice STRASSE") == [work, home]
            assert tx.claims(ALICE, "Alice Straße", "residence") == [home]
            assert tx.claims(ALICE, "Alice Straße", "pet") == []
            assert tx.claims(Scope(), "Alice Straße") == []

    # -- time ------------------------------------------------------------------------------------

    def test_as_of_shows_what_was_known_then(self, store: Store) -> None:
        boston = cube("Boston", recorded=T0)
        insert(store, boston)
        denver = cube("Denver", recorded=T0 + 10 * DAY)
        with store.transaction() as tx:  # said on day 10: she moved on day 5 already
            tx.insert([Write(denver)])
            tx.close(boston.id, at=T0 + 10 * DAY, by=denver.id, valid_to=T0 + 5 * DAY)
        known = {day: ids(store, as_of=T0 + day * DAY) for day in (-1, 0, 7, 10, 100)}
        assert known == {-1: [], 0: [boston.id], 7: [boston.id], 10: [denver.id], 100: [denver.id]}
        assert ids(store) == [denver.id]
        assert ids(store, closed=True, as_of=T0 + 7 * DAY) == [boston.id]
        with pytest.raises(InvalidInput, match="time zone"):
            store.query(ALICE, as_of=datetime(2024, 1, 1))

    def test_what_no_longer_holds_or_expired_is_not_visible(self, store: Store) -> None:
        stay = cube("in Paris until day 3", recorded=T0, valid_to=T0 + 3 * DAY)
        code = cube("the door code", recorded=T0, expires=T0 + 3 * DAY)
        party = cube("the party was on day 2", recorded=T0, semantic_type="event", valid_to=T0 + 3 * DAY)
        insert(store, stay, code, party)
        assert set(ids(store, as_of=T0 + 2 * DAY)) == {stay.id, code.id, party.id}
        assert ids(store, as_of=T0 + 3 * DAY) == ids(store) == [party.id]
        assert [score for _, score in store.match("door code", ALICE)] == []
        assert len(store.match("Paris", ALICE)) == 1  # still open: a finder lets the ranker decide

    def test_a_message_from_the_future_counts_now(self, store: Store) -> None:
        ahead = cube(recorded=now() + DAY)
        insert(store, ahead)
        assert ids(store) == [ahead.id]
        assert ids(store, as_of=now()) == []

    @pytest.mark.parametrize("state", list(State))
    def test_states(self, store: Store, state: State) -> None:
        one = cube(state=state)
        insert(store, one)
        hidden = state in {State.MERGED, State.ARCHIVED, State.DELETED}
        assert ids(store) == ([] if hidden else [one.id])
        assert len(store.match("Boston", ALICE)) == (not hidden)
        assert ids(store, where={"state": state.value}) == [one.id]
        assert ids(store, where={"OR": [{"NOT": [{"state": "x"}]}]}) == [one.id]
        assert ids(store, closed=True) == [one.id]
        assert len(store.keys(ALICE, {"kind": "text"})) == 1

    # -- pages -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_pages_cover_everything_once_while_others_insert(self, store: Store, newest_first: bool) -> None:
        cubes = [cube(str(n), recorded=T0 + (n % 7) * DAY) for n in range(25)]  # many with equal times
        insert(store, *cubes)
        expected = ids(store, limit=1000, newest_first=newest_first)
        times = [store.get(id).header.recorded for id in expected]  # type: ignore[union-attr]
        assert times == sorted(times, reverse=newest_first)
        seen: list[str] = []
        cursor = None
        while True:
            page = store.query(ALICE, limit=4, cursor=cursor, newest_first=newest_first)
            seen += [one.id for one in page.cubes]
            if (cursor := page.cursor) is None:
                break
            insert(store, cube("late", recorded=T0 + 100 * DAY if newest_first else T0 - DAY))
        assert seen == expected

    def test_a_page_that_ends_exactly_has_no_cursor(self, store: Store) -> None:
        insert(store, cube(), cube())
        assert store.query(ALICE, limit=2).cursor is None
        assert store.query(ALICE, limit=1).cursor is not None

    @pytest.mark.parametrize("cursor", ["", "x", "bm9uc2Vuc2U=", "WzEsMl0", "WyIxIiwiMiJd", "é"])
    def test_a_bad_cursor_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidInput, match="cursor"):
            store.query(ALICE, cursor=cursor)

    @pytest.mark.parametrize("limit", [0, -1, True, 2.0])
    def test_a_bad_limit_is_refused(self, store: Store, limit: Any) -> None:
        with pytest.raises(InvalidInput, match="limit"):
            store.query(ALICE, limit=limit)

    # -- changes ---------------------------------------------------------------------------------

    def test_changes_replay_to_the_present_state(self, store: Store) -> None:
        rng = np.random.default_rng(7)
        mirror: dict[int, MemCube] = {}
        vectors: dict[int, Any] = {}
        since, live = 0, []
        for step in range(60):
            if not live or rng.random() < 0.5:
                live.append(one := cube(str(step), scope=ALICE if rng.random() < 0.7 else BOB))
                with store.transaction() as tx:
                    tx.insert([Write(one, unit(step) if step % 3 else None)])
            elif rng.random() < 0.5:
                pick = int(rng.integers(len(live)))
                live[pick] = revise(store, live[pick], f"{step} again")
            elif rng.random() < 0.5:
                close(store, live.pop(int(rng.integers(len(live)))), now())
            else:
                with store.transaction() as tx:
                    tx.forget([live.pop(int(rng.integers(len(live)))).id])
            if step % 5 == 0:
                since = _replay(store, since, mirror, vectors)
        _replay(store, since, mirror, vectors)
        keys = [int(key) for key in store.keys(ALICE, {"kind": "text"})]
        assert sorted(mirror) == keys
        assert store.load(keys) == [mirror[key] for key in keys]
        for key, vector in vectors.items():
            if key in mirror and mirror[key] == store.get(mirror[key].id):
                np.testing.assert_array_equal(vector, store.vector(mirror[key].id))

    def test_many_changes_come_in_order(self, store: Store) -> None:
        insert(store, *[cube(str(n), scope=ALICE if n % 2 else BOB) for n in range(2300)])
        with store.transaction() as tx:
            tx.forget([one.id for one in store.query(ALICE, limit=600).cubes])
        for scope, count in ((Scope(), 2300), (ALICE, 1150)):
            changes = list(store.changes(scope))
            assert len(changes) == count
            assert [c.change for c in changes] == sorted({c.change for c in changes})
            assert sum(c.gone for c in changes) == 600
        assert store.last_change() == 2900

    def test_a_key_is_never_used_again(self, store: Store) -> None:
        one = cube()
        insert(store, one)
        (key,) = store.keys(ALICE, {"id": one.id})
        with store.transaction() as tx:
            tx.forget([one.id])
            tx.insert([Write(one)])
        (again,) = store.keys(ALICE, {"id": one.id})
        assert again != key

    def test_load_keeps_the_order_and_names_missing_keys(self, store: Store) -> None:
        insert(store, *[cube(str(n)) for n in range(5)])
        keys = store.keys(ALICE, {"kind": "text"})
        order = [int(keys[n]) for n in (3, 0, 4, 3)]
        assert [one.text for one in store.load(order)] == ["3", "0", "4", "3"]
        assert [one.text for one in store.load(keys[::-1])] == ["4", "3", "2", "1", "0"]  # numpy integers
        assert store.load([]) == []
        with pytest.raises(NotFound, match="12345"):
            store.load([order[0], 12345])

    def test_sizes_are_those_of_what_is_open_in_the_scope(self, store: Store) -> None:
        ended = cube("over", valid_to=T0), cube("expired", expires=T0), cube("archived", state=State.ARCHIVED)
        texts = [cube(text) for text in ("one", "zwei ü", "three")]
        insert(store, *texts, *ended, cube("of bob", scope=BOB), cube("of others", scope=Scope("umbrella", "alice")))
        made_by = Fingerprint("a", "w", "t", "f")
        for kind, long, of in (("activation", 3, texts[:2]), ("activation", 5, texts[1:]), ("parameter", 2, texts[:1])):
            lineage = Lineage(tuple((one.id, 1) for one in of), "prefill")
            payload = TensorPayload.from_numpy({"k": np.ones(long, np.float32)}, made_by)
            insert(store, MemCube(Header(scope=ALICE, kind=kind, lineage=lineage), payload))  # type: ignore[arg-type]
        revise(store, texts[2], "three and more")
        for scope in (ALICE, BOB, Scope(), Scope("umbrella"), Scope("nobody")):
            found = {one.kind: one for one in store.sizes(scope)}
            for kind in ("text", "activation", "parameter"):
                cubes = store.query(scope, {"kind": kind}, limit=100).cubes
                made_of = {id for one in cubes for id, _ in one.header.lineage.derived_from}
                size = (len(cubes), sum(one.nbytes for one in cubes), len(made_of))
                told = found.get(kind)
                assert size == ((told.cubes, told.bytes, told.parents) if told else (0, 0, 0))
        assert [one.cubes for one in store.sizes(ALICE)] == [2, 1, 3]

    # -- vectors ---------------------------------------------------------------------------------

    def test_the_vector_is_that_of_the_newest_version(self, store: Store) -> None:
        one = cube()
        with store.transaction() as tx:
            tx.insert([Write(one, unit(1))])
            tx.revise(Write(replace(one, header=replace(one.header, version=2)), unit(2)), expect=1)
        np.testing.assert_array_equal(store.vector(one.id), unit(2))
        revise(store, store.get(one.id), "no vector")  # type: ignore[arg-type]
        assert store.vector(one.id) is None

    @pytest.mark.parametrize(
        "bad", [np.ones(7, np.float32), np.ones((8, 1), np.float32), np.full(8, np.nan, np.float32), np.ones(0)]
    )
    def test_a_vector_that_does_not_fit_is_refused(self, store: Store, bad: Any) -> None:
        insert(store)
        with store.transaction() as tx:
            tx.insert([Write(cube(), unit(1))])
        with pytest.raises(InvalidInput, match="vector"), store.transaction() as tx:
            tx.insert([Write(cube("fine"), unit(2)), Write(cube("bad"), bad)])
        assert len(ids(store)) == 1

    # -- full text -------------------------------------------------------------------------------

    def test_match_finds_words_stems_and_phrases(self, store: Store) -> None:
        run = cube("Alice was running in the park")
        cafe = cube("She drinks coffee at the café near the park")
        insert(store, run, cafe, cube("the park of Bob", scope=BOB))

        def found(text: str) -> list[str]:
            return [one.id for one in store.load([key for key, _ in store.match(text, ALICE)])]

        assert found("runs") == [run.id]
        assert found("Cafe?") == [cafe.id]
        assert set(found("running café")) == {run.id, cafe.id}
        assert found('"near the park"') == [cafe.id]
        assert found('"park near"') == []
        assert found("nothing else") == []
        scores = [score for _, score in store.match("coffee park", ALICE)]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 2
        assert len(store.match("park", ALICE, limit=1)) == 1

    @pytest.mark.parametrize(
        "text",
        ["", " ", '"', '""', '"""', "'", "*", "a* OR", "NEAR(", "text:", "^", "(", "\0", "-x", "AND", "{x}", "!"],
    )
    def test_match_takes_any_text(self, store: Store, text: str) -> None:
        insert(store, cube("quite harmless"))
        assert store.match(text, ALICE) == []
        assert len(store.match(f"{text} harmless {text}", ALICE)) == 1

    def test_closed_versions_do_not_match(self, store: Store) -> None:
        one = cube("alpha")
        insert(store, one)
        revise(store, one, "beta")
        assert store.match("alpha", ALICE) == []
        assert len(store.match("beta", ALICE)) == 1

    # -- filters ---------------------------------------------------------------------------------

    def test_filters_on_metadata_and_header(self, store: Store) -> None:
        berlin = cube("b", metadata={"city": "Berlin", "n": {"age": 30}}, tags=("home",), recorded=T0)
        paris = cube("p", metadata={"city": "Paris", "n": {"age": 40}, "list": ["x", 1]}, recorded=T0 + DAY)
        bare = cube("x", recorded=T0 + 2 * DAY)
        insert(store, berlin, paris, bare)
        for where, expected in [
            ({"city": "Berlin"}, [berlin]),
            ({"city": {"ne": "Berlin"}}, [bare, paris]),
            ({"city": {"in": ["Paris", "Berlin"]}}, [paris, berlin]),
            ({"city": {"icontains": "BER"}}, [berlin]),
            ({"city": "*"}, [paris, berlin]),
            ({"city": None}, [bare]),
            ({"n.age": {"gt": 30, "lte": 40.0}}, [paris]),
            ({"n.age": "30"}, []),
            ({"list": {"contains": 1}}, [paris]),
            ({"tags": {"contains": "home"}}, [berlin]),
            ({"created_at": {"gte": "2024-01-02"}}, [bare, paris]),
            ({"OR": [{"city": "Berlin"}, {"NOT": [{"city": "*"}]}]}, [bare, berlin]),
            ({"and": [{"city": "*"}, {"id": paris.id}]}, [paris]),
        ]:
            assert ids(store, where=where) == [one.id for one in expected], where
            found = [one.id for one in store.load(store.keys(ALICE, where))]
            assert sorted(found) == sorted(one.id for one in expected), where

    def test_a_bad_filter_is_refused(self, store: Store) -> None:
        for where in ({}, {"a": {"like": "x"}}, {"AND": []}, {"importance": {"gt": "much"}}):
            with pytest.raises(InvalidInput, match="where"):
                store.query(ALICE, where)
            with pytest.raises(InvalidInput, match="where"):
                store.keys(ALICE, where)

    # -- lineage and forgetting ------------------------------------------------------------------

    def test_derived_names_open_memories_made_from_one(self, store: Store) -> None:
        turn = cube("turn", semantic_type="turn")
        fact = cube("fact", lineage=Lineage(((turn.id, 1),), "extract"))
        quoted = cube("quotes it only", provenance=Provenance((Source(turn.id, 0, 4),)))
        closed = cube("closed", lineage=Lineage(((turn.id, 1),)))
        insert(store, turn, fact, quoted, closed)
        close(store, closed, now())
        revise(store, fact, "augmented", lineage=Lineage(((fact.id, 1),), "augment"))
        assert store.derived(turn.id) == [fact.id]
        assert store.derived(fact.id) == []

    def test_forget_takes_everything_made_from_it(self, store: Store) -> None:
        turn = cube("turn zebra", semantic_type="turn")
        fact = cube("fact zebra", lineage=Lineage(((turn.id, 1),), "extract"))
        quoted = cube("quote zebra", provenance=Provenance((Source(turn.id, 0, 4),)))
        summary = cube("summary zebra", lineage=Lineage(((fact.id, 1), ("elsewhere", 2)), "merge"))
        circle = cube("circle zebra", lineage=Lineage(((summary.id, 1),)))
        other = cube("zebra of its own")
        payload = TensorPayload.from_numpy({"k": np.ones(3, np.float32)}, Fingerprint("a", "w", "t", "f"))
        cache = MemCube(Header(scope=ALICE, kind="activation", lineage=Lineage(((turn.id, 1),))), payload)
        insert(store, turn, fact, quoted, summary, circle, other, cache)
        revise(store, summary, "summary 2", lineage=Lineage(((circle.id, 1), (summary.id, 1))))
        gone = [turn, fact, quoted, summary, circle, cache]
        with store.transaction() as tx:
            assert tx.forget([turn.id, "unknown"], actor="bob", reason="asked") == sorted(one.id for one in gone)
            assert tx.newest(turn.id) is None
        for one in gone:
            assert store.get(one.id) is None
            assert store.versions(one.id) == []
            assert store.vector(one.id) is None
        assert store.query(ALICE, closed=True).cubes == [other]
        assert len(store.match("zebra", ALICE)) == 1
        assert sum(change.gone for change in store.changes(ALICE)) == 7
        events = [event for event in store.events() if event.action == "forget"]
        assert {event.cube for event in events} == {one.id for one in gone}
        assert {(event.actor, event.reason) for event in events} == {("bob", "asked")}

    def test_forgetting_nothing_is_fine(self, store: Store) -> None:
        with store.transaction() as tx:
            assert tx.forget([]) == []
            assert tx.forget(["unknown"]) == []
            with pytest.raises(InvalidInput, match="list"):
                tx.forget("abc")
        assert list(store.events()) == []

    # -- log -------------------------------------------------------------------------------------

    def test_a_note_is_a_row_of_the_log_and_changes_nothing(self, store: Store) -> None:
        one = cube("moved")
        insert(store, one)
        before = store.last_change()
        with store.transaction() as tx:
            tx.note(one.id, action="promote", actor="memos", reason="HOT_STABLE", details={"heat": 2.5})
            with pytest.raises(NotFound):
                tx.note("unknown", action="promote")
        *_, event = store.events(cube=one.id)
        assert (event.action, event.actor, event.version, event.details) == ("promote", "memos", 1, {"heat": 2.5})
        assert store.versions(one.id) == [one] and store.last_change() == before and store.verify() == []

    def test_tensors_are_no_changes_of_an_index(self, store: Store) -> None:
        payload = TensorPayload.from_numpy({"k": np.ones(3, np.float32)}, Fingerprint("a", "w", "t", "f"))
        text, cache = cube("text"), MemCube(Header(scope=ALICE, kind="activation"), payload)
        insert(store, text, cache)
        assert [change.cube for change in store.changes(ALICE)] == [text]
        assert {one.id for one in store.query(ALICE).cubes} == {text.id, cache.id}

    def test_the_log_tells_who_did_what(self, store: Store) -> None:
        one, two = cube("secret-word"), cube()
        with store.transaction() as tx:
            tx.insert([Write(one, actor="alice", reason="said", details={"rule": 3}), Write(two)])
        revise(store, one, "secret-word again")
        close(store, one, T0, by=two.id, action="supersede", actor="rules", reason="newer")
        with store.transaction() as tx:
            tx.forget([two.id])
        events = list(store.events())
        assert [(e.seq, e.action, e.cube, e.version, e.actor) for e in events] == [
            (1, "add", one.id, 1, "alice"),
            (2, "add", two.id, 1, "user"),
            (3, "update", one.id, 2, "user"),
            (4, "supersede", one.id, 2, "rules"),
            (5, "forget", two.id, 1, "user"),
        ]
        assert events[0].details == {"rule": 3}
        assert events[2].details == {"previous": 1}
        assert events[3].details == {"superseded": T0.isoformat(), "by": two.id}
        assert all(abs(now() - e.at) < DAY for e in events)
        assert len({e.hash for e in events}) == 5
        assert "secret-word" not in repr(events)
        assert [e.seq for e in store.events(cube=one.id)] == [1, 3, 4]
        assert [e.seq for e in store.events(since=3)] == [4, 5]
        assert [e.seq for e in store.events(limit=2)] == [1, 2]
        assert list(store.events(limit=0)) == []

    def test_a_long_log_reads_in_order(self, store: Store) -> None:
        insert(store, *[cube(str(n)) for n in range(1203)])
        assert [e.seq for e in store.events()] == list(range(1, 1204))
        assert [e.seq for e in store.events(since=100, limit=777)] == list(range(101, 878))

    # -- threads ---------------------------------------------------------------------------------

    def test_threads_write_without_losing_anything(self, store: Store) -> None:
        shared = cube("0")
        insert(store, shared)
        done: list[int] = []
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(10):
                    insert(store, cube(f"{number} {step}", scope=BOB))
                    done.append(_increment(store, shared.id))
                    assert store.query(BOB, limit=5).cubes
            except BaseException as error:  # noqa: BLE001 - reported below
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(ids(store, BOB, limit=1000)) == 80
        assert sorted(done) == list(range(1, 81))
        assert [one.text for one in store.versions(shared.id)] == [str(n) for n in range(81)]

    def test_a_reader_is_not_blocked_by_a_writer(self, store: Store) -> None:
        insert(store, cube("before"))
        seen: list[list[str]] = []
        with store.transaction() as tx:
            tx.insert([Write(cube("during"))])
            thread = threading.Thread(target=lambda: seen.append([c.text for c in store.query(ALICE).cubes]))
            thread.start()
            thread.join(20)
        assert seen == [["before"]]

    # -- the end ---------------------------------------------------------------------------------

    def test_a_closed_store_says_so(self, open_store: Opener) -> None:
        store = open_store()
        store.close()
        store.close()
        for call in (lambda: store.get("x"), lambda: insert(store, cube()), store.last_change, store.verify):
            with pytest.raises(LaminaError, match="closed"):
                call()

    def test_stats_count(self, store: Store) -> None:
        one, two = cube(), cube()
        with store.transaction() as tx:
            tx.insert([Write(one, unit(1)), Write(two)])
        revise(store, one, "again")
        close(store, two, now())
        stats = store.stats()
        assert {name: stats[name] for name in ("versions", "memories", "open", "vectors", "events")} == {
            "versions": 3, "memories": 2, "open": 1, "vectors": 1, "events": 4,
        }  # fmt: skip
        assert stats["bytes"] > 0


def _replay(store: Store, since: int, mirror: dict[int, MemCube], vectors: dict[int, Any]) -> int:
    for change in store.changes(ALICE, since):
        assert change.change > since
        since = change.change
        if change.gone:
            assert change.cube is None
            mirror.pop(change.key, None)
        else:
            assert change.cube is not None
            mirror[change.key] = change.cube
            vectors[change.key] = change.vector
    return since


def _increment(store: Store, id: str) -> int:
    """Read, add one, write; again when somebody was faster."""
    while True:
        old = store.get(id)
        assert old is not None
        try:
            return int(revise(store, old, str(int(old.text) + 1)).text)
        except Conflict:
            continue
