"""MemStore: a folder in which bundles are published under terms, and subscribers who keep up with it.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (MemStore: publish, subscribe, access counts, expiry).
``feed.jsonl`` says in order what was published and what was forgotten, each line signed by its publisher's key, so that
whoever may write to the folder can neither publish nor forget in another's name. ``deliveries.jsonl`` is a hash chain
as the store's log is: who got what, when. Any folder that processes share will do.

A new version of a memory arrives as a revision (ids are made from the publisher's, ``sharing.local_id``); a forget
arrives as a forget, also at subscribers that come later: it outlives the bundles it was taken out of.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lamina.cube import strict_json
from lamina.cube.cube import Scope, now
from lamina.errors import CorruptStore, InvalidInput, LaminaError, NotPermitted
from lamina.kernel.bundles import bundle_file
from lamina.kernel.bundles.bundle_file import Key
from lamina.kernel.forgetting import Forgetting, Receipt
from lamina.kernel.governance import Principal
from lamina.kernel.sharing import Loaded, MemLoader, local_id
from lamina.store.base import Filter
from lamina.store.filters import matches, parse
from lamina.store.log import GENESIS, Chain, Row, details_json, problems

_MAX_LINE = 64 << 20


@dataclass(frozen=True, slots=True)
class Terms:
    """Who may have it (names of subscribers, or ``"*"``), until when, how many times in all, under which licence.

    What was delivered expires with the terms."""

    audience: tuple[str, ...] = ("*",)
    expires: datetime | None = None
    max_deliveries: int | None = None
    license: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Line ``seq`` of the feed, for one subscriber: a bundle and which of its ids, or ids to forget."""

    seq: int
    kind: Literal["publish", "forget"]
    signer: str
    ids: tuple[str, ...]
    file: Path | None = None
    terms: Terms = Terms()


class MemStore:
    """The folder ``root``, made when missing. ``keys``: the publishers that are known, by whose lines it goes."""

    def __init__(self, root: str | os.PathLike[str], keys: Sequence[Key]) -> None:
        self.root = Path(root)
        self._keys = {key.name: key for key in keys}
        (self.root / "bundles").mkdir(parents=True, exist_ok=True)

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, bundle: str | os.PathLike[str], terms: Terms, key: Key) -> int:
        """Offer a bundle that ``key`` signed; its number in the feed. Raises ``UntrustedBundle``, ``CorruptCube``."""
        with self._lock():
            seq = len(self._feed()) + 1
            file = self.root / "bundles" / f"{seq:08d}.bundle"
            _replace(file, Path(bundle).read_bytes())
            try:  # the copy, which nobody can change any more, is what is checked
                ids = sorted(cube.id for cube in bundle_file.read(file, {key.name: key}).cubes)
                told = {"seq": seq, "kind": "publish", "ids": ids, "file": file.name, "terms": _terms_json(terms)}
                self._append(key, told)
            except LaminaError:
                file.unlink()
                raise
        return seq

    def forget(self, ids: Collection[str], key: Key) -> int:
        """Take the publisher's own ``ids`` back everywhere: said first, then taken out of the bundles; its number."""
        with self._lock():
            seq = len(self._feed()) + 1
            self._append(key, {"seq": seq, "kind": "forget", "ids": sorted(ids)})
            self._clear(key)
        return seq

    def _clear(self, key: Key) -> None:
        """No bundle of the publisher holds what it took back (again, if a crash came between)."""
        rewrite = bundle_file.rewriter(key)
        for line in self._feed():
            gone = self._taken_back(key.name, line["seq"]) & set(line["ids"])
            file = self.root / "bundles" / str(line.get("file"))
            if gone and line["kind"] == "publish" and line["signer"] == key.name and file.exists():
                held = {cube.id for cube in bundle_file.read(file, {key.name: key}).cubes}
                if held & gone and not rewrite(file, gone):
                    file.unlink()

    # -- subscribing -----------------------------------------------------------------------------

    def subscribe(self, subscriber: str, where: Filter | None = None, *, cursor: int = 0) -> Iterator[Delivery]:
        """What came after line ``cursor`` of the feed that ``subscriber`` may have and ``where`` lets through.

        Every delivery is logged, and counted against the terms, before it is handed out. Lines that no known key
        signed are passed over.
        """
        node = parse(where) if where else None
        for line in self._feed()[cursor:]:
            key = self._keys.get(line["signer"])
            if key is None or not _signed(line, key):
                continue
            delivery = Delivery(line["seq"], line["kind"], key.name, tuple(line["ids"]))
            if line["kind"] == "publish":
                terms = _terms(line["terms"])
                left = set(line["ids"]) - self._taken_back(key.name, line["seq"])
                file = self.root / "bundles" / Path(line["file"]).name
                if not left or not file.exists():
                    continue
                cubes = bundle_file.read(file, {key.name: key}).cubes
                kept = [c.id for c in cubes if c.id in left and (node is None or matches(node, c.header))]
                if not kept:
                    continue
                delivery = replace(delivery, ids=tuple(kept), file=file, terms=terms)
            if self._logged(delivery, subscriber):
                yield delivery

    def deliveries(self) -> list[Row]:
        """The log of deliveries, proved. Raises ``CorruptStore`` when it was altered."""
        rows = [Row(*line) for line in _lines(self.root / "deliveries.jsonl")]
        if found := list(problems(rows)):
            raise CorruptStore(f"{self.root / 'deliveries.jsonl'}: {found[0]}")
        return rows

    def _allowed(self, seq: int, terms: Terms, subscriber: str) -> bool:
        if "*" not in terms.audience and subscriber not in terms.audience:
            return False
        if terms.expires is not None and terms.expires <= now():
            return False
        count = sum(row.version == seq and row.action == "publish" for row in self.deliveries())
        return terms.max_deliveries is None or count < terms.max_deliveries

    def _logged(self, delivery: Delivery, subscriber: str) -> bool:
        """Log a delivery unless the terms allow no more; both under the lock, or two could take the last one."""
        with self._lock():
            if delivery.kind == "publish" and not self._allowed(delivery.seq, delivery.terms, subscriber):
                return False
            rows = self.deliveries()
            chain = Chain(rows[-1].seq, rows[-1].hash) if rows else Chain(0, GENESIS)
            details = details_json({"ids": list(delivery.ids), "license": delivery.terms.license})
            at = time.time_ns() // 1000
            row = chain.append(at, subscriber, delivery.kind, delivery.signer, delivery.seq, "delivered", details)
            _append(self.root / "deliveries.jsonl", list(row))
        return True

    # -- the feed --------------------------------------------------------------------------------

    def _feed(self) -> list[dict[str, Any]]:
        lines = list(_lines(self.root / "feed.jsonl"))
        for number, line in enumerate(lines, 1):
            named = isinstance(line, dict) and {"seq", "kind", "ids", "signer", "mac"} <= line.keys()
            if not named or line["seq"] != number:
                raise CorruptStore(f"{self.root / 'feed.jsonl'}: line {number} is not the {number}th of the feed")
        return lines

    def _taken_back(self, signer: str, since: int) -> set[str]:
        key = self._keys.get(signer)
        later = [line for line in self._feed()[since:] if line["kind"] == "forget" and line["signer"] == signer]
        return {id for line in later if key is not None and _signed(line, key) for id in line["ids"]}

    def _append(self, key: Key, line: dict[str, Any]) -> None:
        if self._keys.get(key.name) != key:
            raise NotPermitted(f"key {key.name!r} is not known here; make the MemStore with it")
        told = line | {"at": now().isoformat(), "signer": key.name}
        _append(self.root / "feed.jsonl", told | {"mac": key.sign(strict_json.dumps(told).encode())})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Subscription:
    """``name``'s subscription to ``source``, kept up by ``pull``: what is delivered becomes ``owner``'s.

    ``cursor`` is the file that remembers how far it has come. ``confirmed=True`` trusts the publishers: deliveries are
    active at once instead of waiting in quarantine.
    """

    def __init__(
        self,
        source: MemStore,
        name: str,
        loader: MemLoader,
        forgetting: Forgetting,
        owner: Scope,
        *,
        actor: Principal,
        cursor: Path,
        where: Filter | None = None,
        confirmed: bool = False,
    ) -> None:
        self._source, self._name, self._loader, self._forgetting = source, name, loader, forgetting
        self._owner, self._actor, self._cursor = owner, actor, cursor
        self._where, self._confirmed = where, confirmed

    def pull(self) -> list[Loaded | Receipt]:
        """Take in everything new. A crash in between repeats the last delivery, which changes nothing."""
        results: list[Loaded | Receipt] = []
        for delivery in self._source.subscribe(self._name, self._where, cursor=self.position):
            results.append(self._take(delivery))
            _replace(self._cursor, str(delivery.seq).encode())
        return results

    @property
    def position(self) -> int:
        """The last line of the feed that was taken in."""
        return int(self._cursor.read_text()) if self._cursor.exists() else 0

    def _take(self, delivery: Delivery) -> Loaded | Receipt:
        if delivery.file is None:
            ids = [local_id(delivery.signer, id, self._owner) for id in delivery.ids]
            return self._forgetting.forget(ids, actor=self._actor.name, reason=f"taken back by {delivery.signer}")
        loaded = self._loader.load(
            delivery.file, self._owner, actor=self._actor, only=delivery.ids, expires=delivery.terms.expires
        )
        if self._confirmed:
            for id in self._loader.waiting(list(loaded.ids.values())):
                self._loader.confirm(id, actor=self._actor, reason=f"subscribed to {delivery.signer}")
        return loaded


def _signed(line: Mapping[str, Any], key: Key) -> bool:
    told = {name: value for name, value in line.items() if name != "mac"}
    return hmac.compare_digest(str(line["mac"]).encode(), key.sign(strict_json.dumps(told).encode()).encode())


def _terms_json(terms: Terms) -> dict[str, Any]:
    expires = terms.expires.astimezone(UTC).isoformat() if terms.expires else None
    return asdict(terms) | {"audience": list(terms.audience), "expires": expires}


def _terms(value: Mapping[str, Any]) -> Terms:
    expires = datetime.fromisoformat(value["expires"]) if value["expires"] else None
    return Terms(tuple(value["audience"]), expires, value["max_deliveries"], value["license"])


def _lines(path: Path) -> Iterator[Any]:
    """JSON values, one a line; what follows the last line end was cut off by a crash. Raises ``CorruptStore``."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else (), 1):
        try:
            yield strict_json.loads(line, max_bytes=_MAX_LINE)
        except InvalidInput as error:
            raise CorruptStore(f"{path}: line {number}: {error}") from error


def _append(path: Path, value: Any) -> None:
    """Durably, on a line of its own even after one that a crash cut off (that piece is dropped)."""
    with path.open("a+b") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write(strict_json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
