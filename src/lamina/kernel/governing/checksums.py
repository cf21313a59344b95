"""Check digits of cards, accounts and national numbers: whether a string of the right form is a real one.

Sources: ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN registry lengths), and the published rules of each national number.
Each function takes what the pattern matched, spaces and separators included.
"""

from __future__ import annotations

import re

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18,
    "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23,
    "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28,
    "PT": 25, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_CF_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_CN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def luhn(digits: str) -> bool:
    """Every second digit from the right doubled (its digits summed), all summed: a multiple of ten."""
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def iban(text: str) -> bool:
    """The length of its country, and 1 modulo 97 with the first four characters moved to the end."""
    plain = text.replace(" ", "")
    if len(plain) != _IBAN_LENGTHS.get(plain[:2]):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def ssn(text: str) -> bool:
    """US social security: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def dni(text: str) -> bool:
    """Spanish DNI and NIE: the letter is the number modulo 23."""
    plain = text.replace("-", "")
    number = plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return plain[-1] == _DNI_LETTERS[int(number) % 23]


def nir(text: str) -> bool:
    """French social security: the key is 97 minus the number modulo 97; Corsica's letters count as digits."""
    plain = text.replace(" ", "")
    month = int(plain[3:5])
    number = int(plain[:-2].replace("2A", "19").replace("2B", "18"))
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and int(plain[-2:]) == 97 - number % 97


def codice_fiscale(text: str) -> bool:
    """Italian tax code: odd places by a table, even ones by value, modulo 26."""
    values = [int(c) if c.isdigit() else ord(c) - ord("A") for c in text[:15]]
    total = sum(_CF_ODD[value] if n % 2 == 0 else value for n, value in enumerate(values))
    return ord(text[15]) - ord("A") == total % 26


def cpf(text: str) -> bool:
    """Brazilian CPF: two digits by weights that fall to 2, modulo 11."""
    digits = [int(d) for d in re.sub(r"\D", "", text)]
    return len(set(digits)) > 1 and all(
        digits[n] == sum(d * (n + 1 - i) for i, d in enumerate(digits[:n])) * 10 % 11 % 10 for n in (9, 10)
    )


def chinese_id(text: str) -> bool:
    """Resident number (GB 11643): weighted sum modulo 11, X for ten; the date inside must be one."""
    total = sum(int(d) * weight for d, weight in zip(text, _CN_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == text[17] and 1 <= int(text[10:12]) <= 12 and 1 <= int(text[12:14]) <= 31
