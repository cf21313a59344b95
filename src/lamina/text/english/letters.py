"""Capital and small letters of every alphabet that has them, as the inside of a character class.

``re`` has no class for upper case, and "A-Z" takes Élodie for a common noun and Évora for no place at all.
"""

from __future__ import annotations

_LAST = 0x1F00  # Latin with all its accents, Greek and Cyrillic
UPPER = "A-Z" + "".join(chr(code) for code in range(0x80, _LAST) if chr(code).isupper())
LOWER = "a-z" + "".join(chr(code) for code in range(0x80, _LAST) if chr(code).islower())
