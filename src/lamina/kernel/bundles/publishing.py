"""MemStore: a folder in which bundles are published under terms, and subscribers who keep up with it.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (MemStore: publish, subscribe, access counts, expiry).
``feed.jsonl`` says in order what was published and what was forgotten, each line signed by its publisher (``keys``), so
that whoever may write to the folder can neither publish nor forget in another's name, and whoever reads it needs no
secret. A line about a bundle names that bundle: another one of the publisher's cannot be put in its place.
``deliveries.jsonl`` is a hash chain as the store's log is: who got what, when. Any folder that processes share will do.

A new version of a memory arrives as a revision (ids are made from the publisher's, ``sharing.local_id``); a forget
arrives as a forget, also at subscribers that come later: it outlives the bundles it was taken out of.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lamina.cube import strict_json
from lamina.cube.cube import Scope, now
from lamina.errors import CorruptCube, CorruptStore, InvalidInput, LaminaError, NotPermitted, UntrustedBundle
from lamina.kernel.bundles import bundle_file
from lamina.kernel.bundles.keys import Key, PublicKey
from lamina.kernel.forgetting import Forgetting, Receipt
from lamina.kernel.governance import Principal
from lamina.kernel.sharing import Loaded, MemLoader, local_id
from lamina.store.base import Filter
from lamina.store.filters import Node, matches, parse
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
    signer: PublicKey
    ids: tuple[str, ...]
    file: Path | None = None
    terms: Terms = Terms()


class MemStore:
    """The folder ``root``, made when missing. ``trusted``: the publishers by whose lines it goes."""

    def __init__(self, root: str | os.PathLike[str], trusted: Sequence[PublicKey]) -> None:
        self.root = Path(root)
        self._trusted = {key.id: key for key in trusted}
        (self.root / "bundles").mkdir(parents=True, exist_ok=True)

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, bundle: str | os.PathLike[str], terms: Terms, key: Key) -> int:
        """Offer a bundle that ``key`` signed; its number in the feed. Raises ``UntrustedBundle``, ``CorruptCube``."""
        with self._lock():
            seq = len(self._feed()) + 1
            file = self.root / "bundles" / f"{seq:08d}.bundle"
            _replace(file, Path(bundle).read_bytes())
            try:  # the copy, which nobody can change any more, is what is checked
                checked = bundle_file.read(file, [key.public])
                ids = sorted(cube.id for cube in checked.cubes)
                told = {"seq": seq, "kind": "publish", "ids": ids, "file": file.name, "bundle": checked.id}
                self._append(key, told | {"terms": _terms_json(terms)})
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
        rewrite, mine = bundle_file.rewriter(key), key.public
        feed = self._signed_feed()
        taken_back = _taken_back(feed)
        for line, signer in feed:
            if signer is None or not signer.same(mine) or line["kind"] != "publish":
                continue
            gone = {id for id in line["ids"] if taken_back.get((mine.id, id), 0) > line["seq"]}
            file = self._file(line)
            if gone and file.exists():
                held = {cube.id for cube in bundle_file.read(file, [mine]).cubes}
                if held & gone and not rewrite(file, gone):
                    file.unlink()

    # -- subscribing -----------------------------------------------------------------------------

    def subscribe(
        self, subscriber: str, where: Filter | None = None, *, after: Mapping[str, int] | None = None
    ) -> Iterator[Delivery]:
        """What of the feed ``subscriber`` may have and ``where`` lets through; of a signer (``PublicKey.id``) in
        ``after``, what came after that line: so whoever is trusted later is heard from the beginning.

        Every delivery is logged, and counted against the terms, before it is handed out. Lines that nobody trusted
        signed are passed over (``signers`` tells of them). A bundle that was damaged, or is not the one that its line
        names, keeps nothing else back, least of all a forget: its error (``CorruptCube``, ``UntrustedBundle``) is
        raised when all else was handed out.
        """
        node = parse(where) if where else None
        feed = self._signed_feed()
        taken_back = _taken_back(feed)
        trouble: LaminaError | None = None
        for line, claimed in feed:
            signer = self._trusted.get(claimed.id) if claimed is not None else None
            if signer is None or line["seq"] <= (after or {}).get(signer.id, 0):
                continue
            left = {id for id in line["ids"] if taken_back.get((signer.id, id), 0) < line["seq"]}
            try:
                delivery = self._delivery(line, signer, left, node)
            except (CorruptCube, CorruptStore, UntrustedBundle) as error:
                trouble = trouble or error
                continue
            if delivery is not None and self._logged(delivery, subscriber):
                yield delivery
        if trouble is not None:
            raise trouble

    def _delivery(
        self, line: Mapping[str, Any], signer: PublicKey, left: Collection[str], node: Node | None
    ) -> Delivery | None:
        """What a line brings of ``left``; ``None`` for nothing."""
        if line["kind"] == "forget":
            return Delivery(line["seq"], "forget", signer, tuple(line["ids"]))
        file = self._file(line)
        if line["kind"] != "publish" or not left or not file.exists():
            return None
        bundle = bundle_file.read(file, [signer])
        if bundle.id != line.get("bundle"):
            raise UntrustedBundle(f"{file} is another bundle than line {line['seq']} of the feed names")
        kept = tuple(c.id for c in bundle.cubes if c.id in left and (node is None or matches(node, c.header)))
        return Delivery(line["seq"], "publish", signer, kept, file, _terms(line.get("terms"))) if kept else None

    def signers(self) -> list[PublicKey]:
        """Everybody who signed a line here, trusted or not, each once."""
        return list({one.id: one for _, one in self._signed_feed() if one is not None}.values())

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
            row = chain.append(at, subscriber, delivery.kind, delivery.signer.id, delivery.seq, "delivered", details)
            _append(self.root / "deliveries.jsonl", list(row))
        return True

    # -- the feed --------------------------------------------------------------------------------

    def _feed(self) -> list[dict[str, Any]]:
        lines = list(_lines(self.root / "feed.jsonl"))
        for number, line in enumerate(lines, 1):
            named = isinstance(line, dict) and {"seq", "kind", "ids", "signer", "signature"} <= line.keys()
            if not named or line["seq"] != number or not _are_texts(line["ids"]):
                raise CorruptStore(f"{self.root / 'feed.jsonl'}: line {number} is not the {number}th of the feed")
        return lines

    def _signed_feed(self) -> list[tuple[dict[str, Any], PublicKey | None]]:
        """Every line with who signed it, trusted or not; ``None`` where the signature is not the signer's."""
        return [(line, _signer(line)) for line in self._feed()]

    def _file(self, line: Mapping[str, Any]) -> Path:
        return self.root / "bundles" / Path(str(line.get("file"))).name

    def _append(self, key: Key, line: dict[str, Any]) -> None:
        if key.public.id not in self._trusted:
            raise NotPermitted(f"key {key.name!r} is not known here; make the MemStore with it")
        told = line | {"at": now().isoformat(), "signer": str(key.public)}
        _append(self.root / "feed.jsonl", told | {"signature": key.sign("feed", strict_json.dumps(told).encode())})

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
        after = self._after()
        for delivery in self._source.subscribe(self._name, self._where, after=after):
            results.append(self._take(delivery))
            after |= {delivery.signer.id: delivery.seq}
            _replace(self._cursor, strict_json.dumps(after).encode())
        return results

    @property
    def position(self) -> int:
        """The last line of the feed that was taken in."""
        return max(self._after().values(), default=0)

    def _after(self) -> dict[str, int]:
        if not self._cursor.exists():
            return {}
        value = strict_json.loads(self._cursor.read_text(encoding="utf-8"), max_bytes=_MAX_LINE)
        if not isinstance(value, dict) or not all(type(line) is int for line in value.values()):
            raise CorruptStore(f"{self._cursor} does not say how far the subscription is: remove it to begin anew")
        return value

    def _take(self, delivery: Delivery) -> Loaded | Receipt:
        if delivery.file is None:
            ids = [local_id(delivery.signer, id, self._owner) for id in delivery.ids]
            return self._forgetting.forget(ids, actor=self._actor.name, reason=f"taken back by {delivery.signer.name}")
        loaded = self._loader.load(
            delivery.file, self._owner, actor=self._actor, only=delivery.ids, expires=delivery.terms.expires
        )
        if self._confirmed:
            for id in self._loader.waiting(list(loaded.ids.values())):
                self._loader.confirm(id, actor=self._actor, reason=f"subscribed to {delivery.signer.name}")
        return loaded


def _signer(line: Mapping[str, Any]) -> PublicKey | None:
    """Whose line it is, trusted or not; ``None`` unless they signed it."""
    told = {name: value for name, value in line.items() if name != "signature"}
    try:
        claimed = PublicKey.parse(str(line["signer"]))
    except InvalidInput:
        return None
    return claimed if claimed.signed("feed", strict_json.dumps(told).encode(), str(line["signature"])) else None


def _taken_back(feed: Sequence[tuple[Mapping[str, Any], PublicKey | None]]) -> dict[tuple[str, str], int]:
    """By signer and id: the last line that took it back."""
    lines = [(line, signer) for line, signer in feed if signer is not None and line["kind"] == "forget"]
    return {(signer.id, id): line["seq"] for line, signer in lines for id in line["ids"]}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _terms_json(terms: Terms) -> dict[str, Any]:
    expires = terms.expires.astimezone(UTC).isoformat() if terms.expires else None
    return asdict(terms) | {"audience": list(terms.audience), "expires": expires}


def _terms(value: Any) -> Terms:
    try:
        expires = datetime.fromisoformat(value["expires"]) if value["expires"] else None
        return Terms(tuple(value["audience"]), expires, value["max_deliveries"], str(value["license"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStore(f"the terms of a line of the feed cannot be read: {error!r}") from error


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
