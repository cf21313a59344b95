"""MemGovernance: who may do what to which memory, in which situation. Denied unless a rule allows it.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (MemGovernance: a ternary check of user, memory and
calling context). The rules:

* no principal reaches another tenant, whatever roles it has;
* the owner of a memory is whom its scope names: its user, acting as themselves or through an agent the memory is
  not kept from; an agent, if the scope names no user;
* the owner may do everything; ``Policy`` grants others to read or write; a role grants what ``ROLES`` says;
* a memory leaves only to those its policy's ``share`` names (an owner's own backup has no destination);
* a memory takes only the forms of ``Header.access``: never that of a weight when something sensitive was found in it,
  nor that of a cache, which is read as system text, when a tool, the web or an import said it (``may_take``);
* what is quarantined, frozen or expired is limited for everybody.

What may be read is also a ``Filter``, so that it is decided in the store's query, *before* ranking: filtering the
best k afterwards would starve the answer and betray by its length that there is more. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from lamina.cube.cube import Header, MemCube, Policy, State, now
from lamina.errors import InvalidInput, NotPermitted
from lamina.store.base import Filter
from lamina.text.decisions import QUARANTINED

Action = Literal["read", "write", "share", "promote", "export", "forget"]
Form = Literal["text", "activation", "parameter"]
ACTIONS: tuple[Action, ...] = get_args(Action)
GOVERNANCE = "governance"  # the role that freezes, and forgets what is frozen
ROLES: Mapping[str, frozenset[Action]] = {
    "admin": frozenset(ACTIONS),
    GOVERNANCE: frozenset[Action](["read", "forget"]),
    "auditor": frozenset[Action](["read"]),
}
_KINDS = ("user", "agent", "role", "tenant")
_QUOTED = ("tool", "web", "import")  # trust: told to a model inside a block of data alone, never in the system turn


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: an agent for a user, a user, an agent by itself, or a service with roles (keys of ``ROLES``, or
    names that policies speak of). Comes from the session, never from a model's output."""

    tenant: str = "default"
    user: str | None = None
    agent: str | None = None
    roles: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """As the log has it."""
        parts = [f"{kind}:{value}" for kind, value in (("user", self.user), ("agent", self.agent)) if value]
        return " ".join(parts) or f"tenant:{self.tenant}"

    @property
    def entries(self) -> tuple[str, ...]:
        """Every entry of a policy that means this principal."""
        own = [f"{kind}:{value}" for kind, value in (("user", self.user), ("agent", self.agent)) if value]
        return ("*", *own, *(f"role:{role}" for role in sorted(self.roles)))


@dataclass(frozen=True, slots=True)
class Context:
    """The situation. ``form``: what a promotion makes of the memory. ``destination``: who gets the copy, as an entry of
    a policy (``"user:bob"``, ``"tenant:acme"``). ``legal_override``: the law asks to erase what is frozen."""

    form: Form | None = None
    destination: str | None = None
    legal_override: bool = False
    at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Allow:
    """Go ahead."""

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Deny:
    """No, and why; the reason quotes nothing of the memory."""

    reason: str

    def __bool__(self) -> bool:
        return False


def check(principal: Principal, action: Action, cube: MemCube | Header, context: Context | None = None) -> Allow | Deny:
    """May ``principal`` do this to the memory in this situation? Raises ``InvalidInput`` for an unknown action."""
    if action not in ACTIONS:
        raise InvalidInput(f"action={action!r}: one of {', '.join(ACTIONS)}")
    header = cube.header if isinstance(cube, MemCube) else cube
    context = context or Context()
    if principal.tenant != header.scope.tenant:
        return Deny("it belongs to another tenant")
    if not _granted(principal, action, header):
        return Deny(f"neither its owner nor anyone its policy or a role lets {action} it")
    return _limits(principal, action, header, context)


def granted(principal: Principal, action: Action, cube: MemCube) -> bool:
    """Whether ownership, policy or a role lets ``principal`` do this at all, whatever state the memory is in."""
    return principal.tenant == cube.header.scope.tenant and _granted(principal, action, cube.header)


def require(principal: Principal, action: Action, cube: MemCube, context: Context | None = None) -> None:
    """Raise ``NotPermitted`` unless ``check`` allows it."""
    verdict = check(principal, action, cube, context)
    if isinstance(verdict, Deny):
        raise NotPermitted(f"{principal.name} may not {action} memory {cube.id}: {verdict.reason}")


def may_take(header: Header, form: Form | None, at: datetime) -> Allow | Deny:
    """Whether a memory may stand in ``form`` at ``at``, whoever asks: it is asked before it is made, and again whenever
    it is about to be served."""
    if header.expires is not None and header.expires <= at:
        return Deny("it expired")
    if _quarantined(header):
        return Deny("it is in quarantine")
    if form is None or form not in header.access:
        return Deny(f"its access lets it take the forms {list(header.access)}, not {form!r}")
    if form == "parameter" and header.sensitivity:
        return Deny(f"it held something sensitive ({', '.join(header.sensitivity)}), which no weights may learn")
    if form == "activation" and header.trust in _QUOTED:
        return Deny(f"its trust is {header.trust!r}: it is quoted as data, and a cache is read as system text")
    return Allow()


def readable(principal: Principal) -> Filter | None:
    """The filter that lets through what ``principal`` may read in its tenant; ``None``: everything."""
    if _by_role(principal, "read"):
        return None
    rules: list[dict[str, Any]] = [{"policy.read": {"in": list(principal.entries)}}]
    if principal.user is not None:
        own: list[dict[str, Any]] = [{"user_id": principal.user}]
        if principal.agent is not None:
            own.append({"agent_id": {"in": [None, principal.agent]}})
        rules.append({"AND": own})
    if principal.agent is not None:
        rules.append({"AND": [{"user_id": None}, {"agent_id": principal.agent}]})
    return {"OR": rules}


def narrowed(principal: Principal, where: Filter | None) -> Filter | None:
    """``where`` and what the principal may read; both must hold."""
    allowed = readable(principal)
    return {"AND": [allowed, where]} if allowed and where else allowed or where


def owns(principal: Principal, header: Header) -> bool:
    """Whether the scope names the principal. A memory that names neither user nor agent has no owner."""
    user, agent = header.scope.user, header.scope.agent
    if principal.tenant != header.scope.tenant:
        return False
    if user is not None:
        return user == principal.user and (agent is None or principal.agent is None or agent == principal.agent)
    return agent is not None and agent == principal.agent


def checked(policy: Policy) -> Policy:
    """``policy`` if every entry means somebody. Raises ``InvalidInput`` naming the one that does not."""
    for name in ("read", "write", "share"):
        for entry in getattr(policy, name):
            kind, colon, who = entry.partition(":")
            known = entry == "*" or (kind in _KINDS and colon and who and (name == "share" or kind != "tenant"))
            if not known:
                raise InvalidInput(
                    f"policy.{name}: {entry!r} means nobody; write '*', 'user:NAME', 'agent:NAME' or 'role:NAME'"
                    + (" or 'tenant:NAME'" if name == "share" else "")
                )
    return policy


def _granted(principal: Principal, action: Action, header: Header) -> bool:
    if owns(principal, header) or _by_role(principal, action):
        return True
    policy = header.policy or Policy()
    if action == "read":
        listed = policy.read
    elif action in ("write", "promote"):
        listed = policy.write
    else:  # to give away or to erase is the owner's
        return False
    return any(entry in listed for entry in principal.entries)


def _by_role(principal: Principal, action: Action) -> bool:
    return any(action in ROLES.get(role, ()) for role in principal.roles)


def _limits(principal: Principal, action: Action, header: Header, context: Context) -> Allow | Deny:
    """What holds for everybody, owners too."""
    expired = header.expires is not None and header.expires <= context.at
    if expired and action != "forget":
        return Deny("it expired")
    frozen = header.state is State.FROZEN
    if action == "write" and frozen:
        return Deny("it is frozen")
    if action == "forget":
        lawful = context.legal_override and GOVERNANCE in principal.roles
        return Allow() if lawful or not frozen else Deny("it is frozen; only governance erases it, by legal override")
    if action == "promote":
        return may_take(header, context.form, context.at)
    if action in ("share", "export") and _quarantined(header):
        return Deny("it is in quarantine")
    if action == "share" or (action == "export" and context.destination is not None):
        return _destination(header, context)
    return Allow()


def _quarantined(header: Header) -> bool:
    return QUARANTINED in header.tags and header.state is State.ARCHIVED


def _destination(header: Header, context: Context) -> Allow | Deny:
    share = header.policy.share if header.policy else ()
    if context.destination is None:
        return Deny("sharing needs a destination")
    if "*" in share or context.destination in share:
        return Allow()
    return Deny(f"its policy does not share it with {context.destination!r}")
