"""Full text: words as SQLite's index has them, ranked by BM25 within the scope asked.

Words are runs of letters and digits, lower case, accents removed, cut by Porter's stemmer (M. F. Porter, 1980), no
stop words: FTS5's ``porter unicode61``. They are kept as ``tsvector`` with their places, for phrases. BM25 (Robertson
and Zaragoza, 2009; k1 = 1.2, b = 0.75, the idf that is never negative) counts only the scope's own open memories, so
that no tenant's words change another's ranks.

There is no GIN index: PostgreSQL does not let a condition on words choose rows before row-level security has, since
``@@`` is not leakproof. The scope's index chooses them, and the words of those rows are compared.
"""

from __future__ import annotations

import re
import threading
import unicodedata

import Stemmer

from lamina.store.reading import LIVE

_TOKEN = re.compile(r"[^\W_]+")
_LONGEST = 500  # letters of a lexeme: PostgreSQL takes 2046 bytes
_BYTES = 900_000  # of all lexemes of a text: PostgreSQL takes 1 MB
_TERMS = 64  # of a query
_local = threading.local()  # a stemmer is not safe to share between threads

MATCH = f"""
WITH here AS NOT MATERIALIZED (
    SELECT w.key, w.length, w.lexemes FROM cubes c JOIN words w ON w.key = c.key
    WHERE {{scope}} AND {{is_open}} AND {LIVE}
), size AS (
    SELECT count(*) AS texts, avg(length) AS mean FROM here
), found AS MATERIALIZED (
    SELECT h.key, h.length, l.lexeme, cardinality(l.positions) AS times FROM here h, unnest(h.lexemes) l
    WHERE h.lexemes @@ ?::tsquery AND l.lexeme IN (SELECT value FROM json_each(?))
), terms AS (
    SELECT lexeme, ln(1 + (texts - count(*) + 0.5) / (count(*) + 0.5)) AS idf FROM found, size GROUP BY lexeme, texts
)
SELECT key, sum(idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean)))::float8 AS score
FROM found JOIN terms USING (lexeme), size GROUP BY key ORDER BY score DESC, key LIMIT ?
"""


def lexemes(text: str) -> list[str]:
    """Index words in order, repeats kept."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    stemmer = getattr(_local, "stemmer", None)
    if stemmer is None:
        stemmer = _local.stemmer = Stemmer.Stemmer("porter")
    return [_stem(stemmer, word[:_LONGEST]) for word in _TOKEN.findall(plain)]


def tsvector(words: list[str]) -> str:
    """The literal of the words with their places; the end of an enormous text is not indexed."""
    places: dict[str, list[int]] = {}
    size = 0
    for place, word in enumerate(words, 1):
        size += len(word.encode()) + 4
        if size > _BYTES:
            break
        places.setdefault(word, []).append(min(place, 16_383))
    return " ".join(f"'{word}':{','.join(map(str, at[:256]))}" for word, at in places.items())


def query(text: str) -> tuple[str, list[str]] | None:
    """A tsquery (any word, or one phrase for text in double quotes) and its words; ``None`` for no word at all."""
    words = lexemes(text.replace("\0", " "))
    if not words:
        return None
    stripped = text.strip()
    if len(stripped) > 2 and stripped[0] == stripped[-1] == '"':
        return " <-> ".join(f"'{word}'" for word in words), list(dict.fromkeys(words))
    words = list(dict.fromkeys(words[:_TERMS]))
    return " | ".join(f"'{word}'" for word in words), words


def _stem(stemmer: Stemmer.Stemmer, word: str) -> str:
    return word if len(word) < 3 else str(stemmer.stemWord(word))
