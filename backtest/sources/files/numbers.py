"""Numbers as files write them: decimal and thousands separators, currencies, 65.67M; ambiguous ones are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from backtest.errors import BadBars, UsageError

_NOTHING = "null none nan na n/a #n/a n.a. - -- --- – — . nil nul \\n missing void #value! <na> nat ."
NOTHING = frozenset(("", "#n/a n/a", *_NOTHING.split()))  # in small letters: there is no number
_FACTORS = {
    "k": 3, "m": 6, "mm": 6, "mn": 6, "mio": 6, "mln": 6, "million": 6, "b": 9, "bn": 9, "mrd": 9, "mld": 9, "md": 9,
    "billion": 9, "t": 12, "tsd": 3, "тыс": 3, "млн": 6, "млрд": 9, "万": 4, "萬": 4, "億": 8, "亿": 8,
}  # fmt: skip
_SIGNS = "$€£¥₹₩₽₺฿₪₴￥"
_CODES = r"usd|eur|gbp|gbx|chf|cad|aud|nzd|jpy|hkd|cny|sek|nok|dkk|pln|inr|usdt|us\$|hk\$|a\$|c\$|zł|kr|fr\.|rs\.?"
_AROUND = re.compile(rf"^(?:{_CODES}|[{_SIGNS}])\s*|\s*(?:{_CODES}|[{_SIGNS}])$", re.IGNORECASE)
_SUFFIX = re.compile(rf"(?<=[\d.,])\s*({'|'.join(sorted(_FACTORS, key=len, reverse=True))})\.?$", re.IGNORECASE)
_BLANKS = re.compile(r"(?<=\d)[\s\u00a0\u202f\u2009'’`´](?=\d)")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_COMMAS = re.compile(r"[+-]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d*)?")
_POINTS = re.compile(r"[+-]?\d{1,3}(\.\d{2,3})*\.\d{3}(,\d*)?|[+-]?(\d+,?\d*|,\d+)(e[+-]?\d+)?", re.IGNORECASE)


def is_nothing(text: str) -> bool:
    """Return whether a cell means "no number"."""
    return text.strip().lower() in NOTHING


def looks_like_number(text: str) -> bool:
    """Return whether a cell may be a number in any notation, including a percentage."""
    body = _body(text.strip().rstrip("%").rstrip())
    return bool(re.fullmatch(r"[+-]?[\d.,]*\d[\d.,]*(e[+-]?\d+)?", body[0], re.IGNORECASE))


def decimal_mark(texts: Iterable[tuple[int, str]], hint: str, where: Callable[[int], str], what: str) -> str:
    """
    Return the decimal separator of the numbers in a file, "." or ",".

    Args:
        texts: the rows and their cells, in all numeric columns.
        hint: the separator usual in such files, for ambiguous numbers; "" if unknown.

    Raises:
        UsageError: the numbers are ambiguous: 1,171 may be either.
        BadBars: some numbers use one separator and some the other.
    """
    seen: dict[str, tuple[int, str]] = {}
    for row, text in texts:
        if vote := _vote(text):
            seen.setdefault(vote, (row, text))
            if "." in seen and "," in seen:
                one, other = (f"{seen[mark][1]!r} in {where(seen[mark][0])}" for mark in ".,")
                raise BadBars(
                    f"{what} has {one} and {other}, which use different decimal separators; write both the "
                    "same way, or say which one it is: --decimal . or --decimal ,"
                )
    if found := next((mark for mark in ".," if mark in seen), ""):
        return found
    if "?," not in seen:
        return "."
    if hint:
        return hint
    row, text = seen["?,"]
    raise UsageError(
        f"{what} has {text!r} in {where(row)}, which is either {text.replace(',', '')} or {text.replace(',', '.')}; "
        "say whether the comma is the decimal separator: --decimal , or --decimal ."
    )


def floats_of(texts: list[str | None], mark: str) -> Iterator[float | None]:
    """Yield the numbers of cells, None for empty ones; ValueError with the text of one that is not a number."""
    for text in texts:
        yield None if text is None or is_nothing(text) else float_of(text, mark)


def float_of(text: str, mark: str) -> float:
    """Return the number in a cell; ValueError with its text if it is not one."""
    stripped = text.strip()
    body, power = _body(stripped)
    if mark == ",":
        if not _POINTS.fullmatch(body):
            raise ValueError(stripped)
        body = body.replace(".", "").replace(",", ".")
    elif "," in body:
        if not _COMMAS.fullmatch(body):
            raise ValueError(stripped)
        body = body.replace(",", "")
    if not _PLAIN.fullmatch(body):
        if stripped.lower().lstrip("+-") in ("inf", "infinity"):
            return float(stripped)
        raise ValueError(stripped)
    try:
        return float(Decimal(body).scaleb(power)) if power else float(body)
    except InvalidOperation as error:
        raise ValueError(stripped) from error


def _body(text: str) -> tuple[str, int]:
    """Return a number without currency, blanks and suffix, and the suffix's power of ten."""
    body = text.replace("−", "-").replace("\u00a0", " ").strip()
    if body[:1] == "(" and body[-1:] == ")":  # as accountants write what is below zero
        body = f"-{body[1:-1].strip()}"
    sign = body[:1] if body[:1] in "+-" else ""
    body = _AROUND.sub("", _AROUND.sub("", body[len(sign) :].strip()))
    power = 0
    if match := _SUFFIX.search(body):
        body, power = body[: match.start()], _FACTORS[match[1].lower()]
    body = _BLANKS.sub("", body)
    return sign + body.strip() if not (sign and body[:1] in "+-") else text, power


def _vote(text: str) -> str:
    """Return the decimal separator of a number; with "?" if it is ambiguous, "" if there is none."""
    body = _body(text.strip().rstrip("%"))[0]
    commas, points = body.count(","), body.count(".")
    if not commas and not points:
        return ""
    if commas and points:
        return "," if body.rfind(",") > body.rfind(".") else "."
    if commas > 1 or points > 1:
        return "." if commas else ","
    mark = "," if commas else "."
    head, tail = body.lstrip("+-").split(mark)
    if not (head.isdigit() or not head) or not (tail.isdigit() or not tail):
        return ""
    thousands = len(tail) == 3 and 0 < len(head) <= 3 and not head.startswith("0")
    return f"?{mark}" if thousands else mark


def holds_numbers(column: Any) -> bool:
    """Return whether an Arrow column has a type from which numbers can be read."""
    import pyarrow as pa

    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(kind(column.type) for kind in kinds)


def as_floats(column: Any, mark: str | None) -> Any:
    """
    Return a column as float64, null for values that mean "none"; None if a value is not a plain number.

    Args:
        mark: "," if the texts are known not to be plain; None or "." to try.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column.cast(pa.float64(), safe=False)  # a long's largest is no float64
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed)
    if mark != ",":
        try:
            return trimmed.cast(pa.float64())
        except pa.ArrowException:
            pass
    return None
