"""``lamina share``: give memories to others as signed bundles, take theirs in as guests, keep up with a shared folder.

One's own key is made at its first use, in the data folder. ``share key`` prints its public half: whoever trusts that,
once, checks every later bundle with it. What is loaded waits in quarantine, where no search finds it, until somebody
confirms it.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, PLAIN, Session, command
from lamina.errors import InvalidInput, NotFound, UntrustedBundle

if TYPE_CHECKING:
    from lamina.cube.payload import Fingerprint
    from lamina.kernel.bundles.keys import Key, KeyRing, PublicKey
    from lamina.kernel.memos import MemOS
    from lamina.kernel.sharing import MemLoader

Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that is shared; made when missing.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="PUBLICKEY", help="Trust this publisher from now on, as share key printed it."),
]


@command(PLAIN)
def key(
    session: Session,
    name: Annotated[str | None, typer.Option(help="What a new key goes by; others see it. Default: the user.")] = None,
) -> None:
    """Print your public key, made at the first use. Others pass it to --trust; compare the fingerprint by voice."""
    own = _own(session, name)
    if name not in (None, own.name):
        raise InvalidInput(f"--name {name!r}: your key goes by {own.name!r}, which stays: others know you by it")
    result = {"name": own.name, "public": str(own.public), "fingerprint": own.public.fingerprint}
    result["file"] = str(_ring(session).file)
    told = f"{own.public}\nfingerprint {own.public.fingerprint}"
    output.emit(session.json, result, lambda screen: screen.print(told, soft_wrap=True))


@command(PLAIN)
def trusted(
    session: Session,
    remove: Annotated[str | None, typer.Option(metavar="FINGERPRINT", help="Trust this one no more.")] = None,
) -> None:
    """List whose bundles are taken in, or trust one of them no more. What it sent before stays."""
    ring = _ring(session)
    if remove is not None:
        gone = ring.distrust(remove)
        output.note(f"{gone.name} ({gone.fingerprint}) is trusted no more.")
    rows = [{"name": one.name, "fingerprint": one.fingerprint, "public": str(one)} for one in ring.trusted()]
    output.emit(session.json, {"trusted": rows}, lambda screen: _keys(screen, rows))


@command(OWNER)
def dump(
    session: Session,
    file: Bundle,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all the user's texts.")] = None,
    to: Annotated[str | None, typer.Option(metavar="WHO", help="user:NAME or tenant:NAME; default: a backup.")] = None,
) -> None:
    """Write memories to a signed bundle. What is sensitive is redacted, what may not leave is left out and told."""
    from lamina.kernel.governing import exports
    from lamina.kernel.sharing import MemDumper

    if file.exists():
        raise InvalidInput(f"FILE {str(file)!r} exists: name a new file, a bundle never overwrites.")
    signing = _own(session)
    with session.memos() as system:
        chosen = ids or _every_text(session, system)
        dumper = MemDumper(system.store, signing, exports.beside(_path(system)))
        done = dumper.dump(chosen, file, actor=system.principal, destination=to)
    result = {"file": str(file), "bundle": done.bundle, "ids": list(done.ids), "left_out": dict(done.left_out)}
    result["redacted"] = {id: list(labels) for id, labels in done.redacted.items()}
    told = f"Wrote {len(done.ids)} memories to {file}, {len(done.redacted)} of them redacted."
    output.emit(session.json, result, lambda screen: _show(screen, told, done.left_out))


@command(OWNER)
def load(session: Session, file: Bundle, trust: Trust = None) -> None:
    """Take a bundle's memories in as this user's. They wait in quarantine: see share waiting, share confirm."""
    from lamina.kernel.bundles import bundle_file

    keys = _believed(session, trust)
    bundle = bundle_file.read(file, keys)
    with session.memos(new=True) as system:
        tensors = any(cube.header.kind != "text" for cube in bundle.cubes)
        loader = _loader(system, keys, system.tiers.lm.fingerprint if tensors else None)
        done = loader.load(file, session.scope(), actor=system.principal)
    result: dict[str, Any] = {"bundle": done.bundle, "signer": done.signer.name, "ids": dict(done.ids)}
    result["fingerprint"] = done.signer.fingerprint
    result |= {name: list(getattr(done, name)) for name in ("new", "revised", "same")}
    result["left_out"] = dict(done.left_out)
    told = f"{done.signer.name}: {len(done.new)} new, {len(done.revised)} revised, {len(done.same)} here already."
    output.emit(session.json, result, lambda screen: _show(screen, told, done.left_out))


@command(OWNER)
def waiting(session: Session) -> None:
    """List the imported memories that wait in quarantine for somebody to confirm them."""
    with session.memos() as system:
        rows = [
            {"id": id, "memory": cube.text if cube.header.kind == "text" else cube.header.kind, "from": _sender(cube)}
            for id in _waiting(session, system)
            if (cube := system.store.get(id)) is not None
        ]
    output.emit(session.json, {"waiting": rows}, lambda screen: _list(screen, rows))


@command(OWNER)
def confirm(
    session: Session,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As share waiting lists them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of this user's.")] = False,
) -> None:
    """Believe imported memories: from now on search finds them."""
    if bool(ids) == everything:
        raise typer.BadParameter("give ids, or --all.")
    with session.memos() as system:
        chosen = ids or _waiting(session, system)
        loader = _loader(system, [])
        for id in chosen:
            loader.confirm(id, actor=system.principal)
    told = f"Confirmed {len(chosen)} memories."
    output.emit(session.json, {"confirmed": chosen}, lambda screen: screen.print(told))


@command(PLAIN)
def publish(
    session: Session,
    folder: Folder,
    file: Bundle,
    audience: Annotated[list[str] | None, typer.Option("--for", metavar="NAME", help="Only for this one.")] = None,
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day the offer ends.")] = None,
    deliveries: Annotated[int | None, typer.Option("--max", min=1, help="How many deliveries in all.")] = None,
    licence: Annotated[str, typer.Option(help="Under which licence.")] = "",
) -> None:
    """Offer a bundle that your key signed to the subscribers of a shared folder."""
    from lamina.kernel.bundles.publishing import MemStore, Terms

    signing = _own(session)
    ends = expires.astimezone() if expires is not None else None
    terms = Terms(tuple(audience or "*"), ends, deliveries, licence)
    number = MemStore(folder, [signing.public]).publish(file, terms, signing)
    told = f"Published {file} as number {number} of {folder}."
    result = {"folder": str(folder), "number": number}
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told)))


@command(PLAIN)
def withdraw(
    session: Session,
    folder: Folder,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Your own ids of what you published.")],
) -> None:
    """Take memories back that you published: out of the folder now, from each subscriber at the next pull."""
    from lamina.kernel.bundles.publishing import MemStore

    signing = _own(session)
    number = MemStore(folder, [signing.public]).forget(ids, signing)
    told = f"Took {len(ids)} memories back, number {number} of {folder}."
    output.emit(session.json, {"folder": str(folder), "number": number}, lambda screen: screen.print(told))


@command(OWNER)
def pull(
    session: Session,
    folder: Folder,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Your name as a subscriber.")],
    trust: Trust = None,
    confirmed: Annotated[bool, typer.Option("--confirm", help="Confirm at once what is delivered.")] = False,
) -> None:
    """Take in what is new in a shared folder, and forget what its publishers took back."""
    from lamina.kernel.bundles.publishing import MemStore, Subscription
    from lamina.kernel.forgetting import Forgetting, Receipt
    from lamina.kernel.governing import exports

    if not re.fullmatch(r"[\w.-]+", name):
        raise InvalidInput(f"--as {name!r}: letters, digits, dots and dashes only")
    keys = _believed(session, trust)
    shop = MemStore(folder, keys)
    _tell_strangers(shop.signers(), keys)
    with session.memos(new=True) as system:
        store, path = system.store, _path(system)
        copies = exports.beside(path)
        forgetting = Forgetting(store, embedder=system.memory.embedder, indexes=system.memory.indexes, exports=copies)
        subscription = Subscription(
            shop,
            name,
            _loader(system, keys),
            forgetting,
            session.scope(),
            actor=system.principal,
            cursor=path.with_name(f"{path.name}.subscription-{name}"),
            confirmed=confirmed,
        )
        done = subscription.pull()
    loaded = [one for one in done if not isinstance(one, Receipt)]
    result: dict[str, Any] = {"new": [id for one in loaded for id in one.new]}
    result["revised"] = [id for one in loaded for id in one.revised]
    result["forgotten"] = [id for one in done if isinstance(one, Receipt) for id in one.ids]
    told = ", ".join(f"{len(ids)} {what}" for what, ids in result.items())
    left_out = {id: why for one in loaded for id, why in one.left_out.items()}
    output.emit(session.json, result | {"left_out": left_out}, lambda screen: _show(screen, f"{told}.", left_out))


def _ring(session: Session) -> KeyRing:
    from lamina.kernel.bundles.keys import KeyRing

    return KeyRing(session.settings().home)


def _own(session: Session, name: str | None = None) -> Key:
    """One's own key; a new one goes by ``name``, or by the user."""
    ring = _ring(session)
    new = not ring.file.exists()
    made = ring.own(name if name is not None else re.sub(r"[\s:]", "-", session.settings().user)[:64])
    if new:
        output.note(f"Made your key, {ring.file}: keep it, it is what others know you by.")
    return made


def _believed(session: Session, trust: list[str] | None) -> list[PublicKey]:
    """Whom we trust, from now on also ``trust``."""
    from lamina.kernel.bundles.keys import PublicKey

    ring = _ring(session)
    for one in [PublicKey.parse(text) for text in trust or ()]:
        if ring.trust(one):
            output.note(f"Trusted from now on: {one.name} ({one.fingerprint}).")
    return ring.trusted()


def _tell_strangers(signers: list[PublicKey], keys: list[PublicKey]) -> None:
    """Say whose lines of a folder are passed over. Raises ``UntrustedBundle`` if that is everybody."""
    from lamina.kernel.bundles.keys import known

    strangers = [one for one in signers if not any(one.same(key) for key in keys)]
    for one in strangers:
        try:
            known(one, keys)
        except UntrustedBundle as error:
            if len(strangers) == len(signers):
                raise
            output.note(f"Passed over: {error}")


def _path(system: MemOS) -> Path:
    """The file of the store, beside which is noted what left it."""
    path: Path | None = getattr(system.store, "path", None)
    if path is None:
        raise InvalidInput("--db: this store has no file, so there is no place to note what was shared")
    return path


def _loader(system: MemOS, keys: list[PublicKey], model: Fingerprint | None = None) -> MemLoader:
    from lamina.kernel.sharing import MemLoader

    return MemLoader(system.store, system.memory.embedder, keys, model=model)


def _every_text(session: Session, system: MemOS) -> list[str]:
    found = _ids(session, system, {"kind": "text"})
    if not found:
        raise NotFound("there is no memory to write; see: lamina list")
    return found


def _waiting(session: Session, system: MemOS) -> list[str]:
    guests = _ids(session, system, {"AND": [{"trust": "import"}, {"state": "archived"}]})
    return _loader(system, []).waiting(guests)


def _ids(session: Session, system: MemOS, where: dict[str, Any]) -> list[str]:
    found, cursor = list[str](), None
    while True:
        page = system.store.query(session.scope(), where, limit=500, cursor=cursor)
        found += [cube.id for cube in page.cubes]
        if (cursor := page.cursor) is None:
            return found


def _sender(cube: Any) -> str:
    """Who signed the bundle, as the second tag of a guest tells."""
    return str(cube.header.tags[1]).removeprefix("import: ")


def _show(screen: Any, told: str, left_out: Any) -> None:
    screen.print(output.styled(told), soft_wrap=True)
    for id, why in left_out.items():
        screen.print(output.styled(f"left out: {id}: {why}", "yellow"), soft_wrap=True)


def _keys(screen: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        screen.print(output.styled(f"{row['name']}  "), output.styled(row["fingerprint"], "cyan"), soft_wrap=True)
    if not rows:
        screen.print("Nobody is trusted yet: pass --trust to load or pull.")


def _list(screen: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        screen.print("Nothing waits.")
    for row in rows:
        screen.print(output.styled(f"{row['memory']}  "), output.styled(row["from"], "yellow"))
        screen.print(output.styled(f"   {row['id']}", "dim cyan"))


share = typer.Typer(help="Signed bundles: give memories, take them in, keep up with a folder.", no_args_is_help=True)
for _name, _verb in {
    "key": key,
    "trusted": trusted,
    "dump": dump,
    "load": load,
    "waiting": waiting,
    "confirm": confirm,
    "publish": publish,
    "withdraw": withdraw,
    "pull": pull,
}.items():
    share.command(_name)(_verb)
