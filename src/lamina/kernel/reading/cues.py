"""What a message wants of memory, by the words that say so: the cue table of MemReader's rules.

MemOS, arXiv 2507.03724, section 4.2, leaves this to a model; here grammar answers first. A request counts where a
sentence makes one ("Forget ...", "Could you please delete ..."), not wherever its verb occurs: "I forgot my keys" and
"he told me to forget it" ask for nothing. Quoted text, block quotes and code are data and are not looked at.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lamina.kernel.reading.calls import Intent
from lamina.text.english.sentences import sentences


class Cue(NamedTuple):
    """An intent and the words that show it. ``asks``: also in a question ("Can you delete ...?")."""

    intent: Intent
    pattern: re.Pattern[str]
    asks: bool


_OPENER = (
    r"(?:please|kindly|ok|okay|hey|hi|hello|so|well|oh|now|also|and|but|then|just|actually|sorry|thanks|thank you|yes"
    r"|yeah|no|right|wait|alright|by the way|btw|listen|look)\b[\s,.!:–—-]*"
)
_ASKING = (
    r"(?:(?:can|could|would|will|may|might) (?:you|we)|i(?:'d| would) (?:like|love|prefer)(?: for)? you to"
    r"|i (?:want|need|ask|wish)(?: for)? you to|you (?:should|must|can|may|need to|have to|ought to|had better)"
    r"|let's|let us|do|make sure (?:to|you|that you)|be sure to|go ahead and|help me(?: to)?|would you mind"
    r"|feel free to)\b[\s,]*"
)
_ASK = rf"^\W*(?:{_OPENER})*(?:{_ASKING})?(?:(?:please|kindly|just|now|also|always|either)\b[\s,]*)*"
_NOT = r"(?:don't|do not|never|shouldn't|should not|mustn't|must not|not|no need to|stop|quit|cease)\b\s*(?:to |ever )?"
_HELD = r"remember|remembering|store|storing|keep|keeping|save|saving|retain|retaining|record|recording|memori[sz]e"
_MINE = r"\b(?:my|our|mine|ours|memor\w+|what|everything|anything|all|about|told|said|saved|stored|noted|know)\b"
_WH = r"(?:who|whom|whose|what|where|when|which|why|how)\b(?:'s|'re|'d)?"
_AUX = (
    r"(?:do|does|did|is|are|was|were|am|has|have|had|can|could|will|would|should|shall|may|might|isn't|aren't|wasn't"
    r"|weren't|don't|doesn't|didn't|haven't|hasn't|won't|wouldn't|couldn't|can't)"
)
_SUMMARY = r"(?:summar(?:y|ies)|overview|recap|rundown|run-down|digest|synopsis|outline|gist|highlights|tl;?dr)"


def _cue(intent: Intent, pattern: str, *, asks: bool = True) -> Cue:
    return Cue(intent, re.compile(pattern, re.I), asks)


# The first that fits a sentence is its intent.
CUES: tuple[Cue, ...] = (
    _cue("write", rf"{_ASK}(?:don't|do not|never|let me not|don't let (?:me|us)) (?:ever )?forget\b"),
    _cue("write", rf"{_ASK}remind (?:me|us) (?:to|not to|that|on|at|tomorrow|next|every)\b"),
    _cue(
        "write",
        rf"{_ASK}(?:(?:remember|memori[sz]e|note|record|log|store|save|register|take down)"
        rf"(?:\s*[:,]|\s+(?!{_WH}|of\b|when\b|if\b|whether\b)\w)|(?:take|make|keep)(?: a)?(?: mental)? note\b"
        r"|(?:keep|bear|have) (?:it |this |that )?in mind\b|(?:write|jot|note|put)\b[^.?!]{0,20}? down\b"
        r"|add\b[^.?!]{0,60}\bto (?:your|my|the) (?:memory|notes|list)\b)",
    ),
    _cue("write", r"\b(?:for (?:future |your |later )?reference|for the record|just so you know|fyi)\b", asks=False),
    _cue("forget", rf"{_ASK}{_NOT}(?:{_HELD})\b"),
    _cue("forget", rf"{_ASK}(?:forget|unlearn|unremember)(?:ting)?\b(?!\s+to\b)"),
    _cue(
        "forget",
        rf"{_ASK}(?:delete|erase|remove|wipe|clear|purge|scrub|discard|drop|destroy|expunge|eliminate|get rid of)"
        rf"(?:ing)?\b(?:\s+(?:it|that|this|them|those|these)\b\W*$|[^.?!]*{_MINE})",
    ),
    _cue("forget", r"^[^.?!]*\b(?:get rid of|erase|forget|delete) (?:it|that|this|them|all of it)\b\W*$", asks=False),
    _cue(
        "update",
        rf"{_ASK}(?:update|change|correct|fix|amend|edit|revise|replace|adjust|modify|rename)(?:ing)?\b[^.?!]*"
        r"\b(?:my|our|what you (?:know|have)|memor\w+|the (?:record|entry|note|fact|date|time|name|address|number))\b",
    ),
    _cue("update", rf"{_ASK}(?:scratch|strike|disregard|ignore) (?:that|this|it|what i)\b"),
    _cue("update", r"^\W*(?:small |quick |minor |one )?(?:correction|erratum|update|edit)\b\s*[:,–—-]", asks=False),
    _cue("update", rf"^\W*(?:{_OPENER})*(?:no[,.]? )?(?:i meant|i mean\b|i misspoke|my mistake|my bad)\b", asks=False),
    _cue("update", r"\bi (?:was|got|had) (?:it |that )?(?:wrong|mistaken|mixed up|confused)\b", asks=False),
    _cue(
        "update",
        r"\b(?:no longer|not\b[^.?!]* any ?more|n't\b[^.?!]* any ?more|used to (?:be|have|live|work|like|love|drink|eat"
        r"|go|do|play|own|use|take|drive|smoke|study|teach|think|prefer|call)"
        r"|(?:has|have|'s|'ve) (?:just |since |now )?(?:changed|switched)|switched (?:from|over)"
        r"|as of (?:now|today|this|next|last|yesterday|tomorrow))\b",
        asks=False,
    ),
    _cue("update", r"^\W*(?:(?:oh|no|sorry|wait|hmm|well|and|but)\b[\s,.!]*)*actually\b", asks=False),
    _cue("update", r",\s*not\s+(?:on |at |in |the |a |an |my )?\S+[.!]*$", asks=False),
    _cue("summarise", rf"{_ASK}(?:summari[sz]e|sum up|recap|condense|wrap up|(?:catch|bring|fill) me (?:up|in))\b"),
    _cue(
        "summarise",
        rf"{_ASK}(?:(?:can|could|may) i )?(?:give|show|send|get|make|write|provide|prepare|have)\b[^.?!]{{0,40}}"
        rf"\b{_SUMMARY}\b",
    ),
    _cue("summarise", rf"\b(?:i|we)(?:'d| would)? (?:want|need|like)\b[^.?!]{{0,30}}\b{_SUMMARY}\b"),
    _cue("summarise", rf"^\W*(?:what(?:'s| is| are|'re) the )?{_SUMMARY} (?:of|on)\b"),
)
# Questions that ask nothing of memory: how somebody is, tags, and requests for something to be made.
_COURTESY = re.compile(
    r"^\W*(?:(?:hey|hi|hello|so|and|good (?:morning|afternoon|evening))\b[\s,!.]*)*"
    r"(?:how (?:are|'re) (?:you|things|we)\b|how(?:'s| is) (?:it|everything|life|your day)\b|how do you do\b"
    r"|what's (?:up|new|going on)\b|really\b|right\b|isn't it\b|you know\b|is that so\b|(?:who|what) are you\b"
    r"|what can you do\b|are you (?:there|ok|okay|sure)\b)",
    re.I,
)
_LOOK = (
    r"(?:tell (?:me|us)|remind (?:me|us)|show (?:me|us)|give me|let me (?:know|see)|list|find|look up|look for|search"
    r"|recall|remember|retrieve|pull up|bring up|check|say|read me|what|see)\b"
)
_RECALL = re.compile(
    rf"{_ASK}(?:tell|remind|show|ask) (?:me|us)\s+(?:about|of|{_WH}|everything|all|anything|more|again|if|whether|my"
    r"|our|the (?!difference|weather|time)|every)"
    rf"|{_ASK}(?:list|find|look up|search|recall|retrieve|pull up|bring up)\b[^.?!]*\b(?:my|our|i|we|me|you|us|memor\w+"
    r"|notes?)\b"
    rf"|{_ASK}let me know\b|^\W*(?:{_OPENER})*(?:(?:in|on|at|for|with|to|from|since) )?(?:{_WH}\s+\w|{_AUX} \w+\b.*\?)"
    rf"|\b{_WH}.*\?"
    r"|\b(?:do you (?:remember|know|recall)|what was|i (?:can't|cannot|can not|don't|do not) (?:remember|recall)\b)",
    re.I,
)
_TASK = re.compile(
    rf"^\W*(?:{_OPENER})*(?:can|could|would|will) you (?:please |kindly |just |also |maybe )*(?!{_LOOK})\w", re.I
)
_EXCLAMATION = re.compile(
    r"^\W*(?:what an?\b|how (?:\w+ )?(?:nice|lovely|funny|great|sad|awful|cool)\b|when (?:i|we|my)\b[^?]*$)", re.I
)

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|^[ \t]*>[^\n]*|\"[^\"]*\"|(?<!\w)[“«„][^”»“]*(?:[”»“]|\Z)"
    r"|(?<![\w\d])\"[^\"]*\Z|(?<!\w)['‘](?:[^'’\n]|(?<=\w)['’](?=\w))+['’](?!\w)",
    re.S | re.M,
)
# Of several sentences the most consequential counts; destroying needs the clearest words, so it comes first.
_ORDER: tuple[Intent, ...] = ("forget", "update", "write", "summarise", "recall")


def quotations(text: str) -> list[tuple[int, int]]:
    """Spans of ``text`` that somebody else may have written: quotes, block quotes, code. An open quote runs on."""
    return [m.span() for m in _QUOTED.finditer(text)]


def unquoted(text: str) -> str:
    """``text`` with its quotations blanked: same length, so that positions stay true."""
    return _QUOTED.sub(lambda m: re.sub(r"\S", " ", m[0]), text)


def intent_by_cues(text: str) -> Intent:
    """What the sentences of ``text`` ask of memory; "none" where none of them asks or tells it to keep anything."""
    plain = unquoted(text).replace("’", "'")
    found = {_intent(plain[start:end]) for start, end in sentences(plain)}
    return next((intent for intent in _ORDER if intent in found), "none")


def _intent(sentence: str) -> Intent:
    question = sentence.rstrip(" \"')").endswith("?")
    if question and _COURTESY.match(sentence):
        return "none"
    for cue in CUES:
        if (cue.asks or not question) and cue.pattern.search(sentence):
            return cue.intent
    if _TASK.match(sentence) or _EXCLAMATION.match(sentence):
        return "none"
    return "recall" if _RECALL.search(sentence) else "none"
