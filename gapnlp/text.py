"""What is done to a text before a model sees it: folding, hashing, checking, masking, windows.

Pure functions. Every pattern takes time linear in the text: repeats are possessive or bounded, and no match
is tried from inside a run that was tried before.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from gapnlp.errors import ConfigError, InputError

_SURROGATE = re.compile("[\ud800-\udfff]")

# A pattern starts with the characters it can start with (the engine skips to them fast) and looks back after.
# A URL with a user name or a password goes as a whole, since its path may name the person too.
_URL_WITH_USER = re.compile(r"[A-Za-z](?<![\w.+-].)[A-Za-z0-9.+-]*+://[^\s/?#@]*+@[^\s<>\"')\]]*+")
# The last label of the domain ends in a letter: "2 kg@3.50" is a price.
_EMAIL = re.compile(
    r"[\w.%+-](?<![\w.%+-].)(?<![\w.%+-]'.)[\w.%+-]*+(?:'[\w.%+-]++)*+@[\w-]++(?:\.[\w-]++)++(?<=[^\W\d_])"
)
_HANDLE = re.compile(r"@(?<![\w@\]]@)[^\W\d]\w*+(?:\.\w++)*+")
_DIGIT = re.compile(r"\d")
_IPV4 = re.compile(r"[0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.\w)")

# ISO 13616: country, two check digits, then groups of four; the country's total length decides where it ends.
_IBAN = re.compile(
    r"[A-Za-z](?<!\w.)[A-Za-z][0-9]{2}(?:[ \u00a0-]?[A-Za-z0-9]{4}){2,7}"
    r"(?:[ \u00a0-]?[A-Za-z0-9]{1,3})?(?!\w)"
)
_IBAN_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {country: length for length, names in _IBAN_COUNTRIES.items() for country in names.split()}
_IBAN_VALUES = {char: str(int(char, 36)) for char in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

# ISO/IEC 7812: four groups of four, the 4-6-4 and 4-6-5 of some brands, or 13 to 19 digits in a row.
_CARD = re.compile(
    r"[2-6](?<!\w.)(?:[0-9]{3}(?:[ \u00a0.-]{0,2}[0-9]{4}){3}|[0-9]{12,18}"
    r"|(?<=3)[0-9]{3}[ \u00a0.-]{1,2}[0-9]{6}[ \u00a0.-]{1,2}[0-9]{4,5})(?!\w)"
)
_LUHN_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")

_GAP = r"[ \t\u00a0\u2009\u202f.\-\u2010\u2011\u2013/()]{0,2}"
_PHONE_ABROAD = re.compile(rf"\+\d(?:{_GAP}\d){{6,14}}(?!\w)")
_AREA = rf"\d\d{_GAP}\d{{3}}{_GAP}\d{{4}}"  # North America, after its first digit
_REST_OF_DATE = r"\d?([./-])\d\d?\1(?:(?:19|20)\d\d(?!\d)|\d\d(?=[ ,]))"  # after its leading 0
_PHONE = re.compile(
    rf"[(0-9](?<!\w.)(?<!\d[:.,/-].)(?:(?<=[2-9]){_AREA}|(?<=[(1])[ .(-]{{0,2}}[2-9]{_AREA}"
    rf"|(?<=1)[3-9]\d{{9}}|(?<=\()0\d(?:{_GAP}\d){{7,10}}"
    rf"|(?<=0)(?:0{_GAP}[1-9](?:{_GAP}\d){{6,14}}|(?!{_REST_OF_DATE})\d(?:{_GAP}\d){{7,10}}))(?!\w)"
)


def fold_text(text: str) -> str:
    """Fold to NFC, every run of white space to one blank, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def hash_text(text: str) -> str:
    """Return the SHA-256 (hexadecimal) of the folded text in UTF-8.

    Lone surrogates, which UTF-8 has no bytes for, are hashed as the three bytes they would have.
    """
    return hashlib.sha256(fold_text(text).encode("utf-8", "surrogatepass")).hexdigest()


def check_text(value: object) -> str:
    """Return `value` unchanged if it is a text with at least one visible character.

    Raises:
        InputError: If it is no string, or empty, or nothing but white space and invisible control characters.
    """
    if value is None:
        raise InputError("got no text (an empty cell), but expected at least one visible character")
    if not isinstance(value, str):
        raise InputError(f"got {type(value).__name__} where a text was expected: give a string")
    if not any(_is_visible(char) for char in value):
        got = "an empty text" if not value else "a text of white space alone"
        raise InputError(f"got {got}, but expected at least one visible character: leave such rows out")
    return value


def _is_visible(char: str) -> bool:
    return not char.isspace() and unicodedata.category(char) not in {"Cc", "Cf"}


def replace_surrogates(text: str) -> str:
    """Replace each lone surrogate by U+FFFD; the length stays, so offsets stay valid."""
    return _SURROGATE.sub("\ufffd", text)


def windows(n_tokens: int, *, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a row of tokens into windows that a model can read.

    The last window is moved left until it is full, so that it has as much context as the others. A row
    without tokens gets the one empty window (0, 0): every text has at least one.

    Args:
        n_tokens: Tokens in the row, 0 or more.
        size: The most tokens in a window, 1 or more.
        overlap: The fewest tokens that neighbours share, 0 to size - 1.

    Returns:
        Half-open ranges (start, end) in ascending order; together they cover every token.

    Raises:
        ConfigError: If a number is out of its range.
    """
    if n_tokens < 0 or size < 1 or not 0 <= overlap < size:
        raise ConfigError(
            f"got {n_tokens} tokens, windows of {size} and an overlap of {overlap}, but expected "
            "n_tokens >= 0, size >= 1 and 0 <= overlap < size"
        )
    last = max(0, n_tokens - size)
    starts = [*range(0, last, size - overlap), last]
    return [(start, min(start + size, n_tokens)) for start in starts]


def mask_personal_data(text: str) -> str:
    """Replace what names or reaches a person by a placeholder such as `[email]`.

    Masks URLs with user info, e-mail addresses, IBANs (length and checksum tested), payment-card numbers
    (Luhn tested), IPv4 addresses, phone numbers with their area code, and @handles. Names and postal
    addresses stay: no pattern tells them. A number that may be a phone's is masked. Masking twice changes
    nothing more.
    """
    has_at = "@" in text
    if has_at:
        text = _URL_WITH_USER.sub("[url]", text) if "://" in text else text
        text = _EMAIL.sub("[email]", text)
    if _DIGIT.search(text):
        text = _IBAN.sub(_mask_iban, text)
        text = _CARD.sub(_mask_card, text)
        text = _IPV4.sub(_mask_ipv4, text)
        text = _PHONE_ABROAD.sub("[phone]", text) if "+" in text else text
        text = _PHONE.sub("[phone]", text)
    return _HANDLE.sub("[handle]", text) if has_at else text


def _mask_ipv4(match: re.Match[str]) -> str:
    """Mask a candidate whose four parts are bytes."""
    return "[ip]" if max(map(int, match[0].split("."))) < 256 else match[0]


def _mask_iban(match: re.Match[str]) -> str:
    """Mask a candidate of its country's length with a right checksum (ISO 7064, MOD 97-10)."""
    found = match[0]
    compact = found.replace(" ", "").replace("-", "").replace("\u00a0", "").upper()
    length = _IBAN_LENGTHS.get(compact[:2], len(compact) + 1)
    n_after = len(compact) - length
    if n_after < 0:
        return found
    if int("".join(_IBAN_VALUES[char] for char in compact[4:length] + compact[:4])) % 97 != 1:
        return found
    end = len(found)
    while n_after:
        end -= 1
        n_after -= found[end].isalnum()
    glued = end < len(found) and found[end - 1].isalnum()
    return found if glued else "[iban]" + found[end - (end < len(found)) :]


def _mask_card(match: re.Match[str]) -> str:
    """Mask a candidate whose last digit is right (Luhn, ISO/IEC 7812-1, annex B)."""
    digits = match[0].encode("ascii", "ignore").translate(None, b" .-")
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_LUHN_DOUBLED)) - ord("0") * len(digits)
    return match[0] if total % 10 else "[card]"
