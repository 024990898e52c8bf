"""Badges: small SVG pictures that say in one line how the claims fare. They need no network and no font of their own.

from lop_utils.evidence import badges, claims
badges.of_verdicts(v.verdict for v in claims.ledger("laptop"))
"""

from collections import Counter
from collections.abc import Iterable
from html import escape

from lop_utils.evidence.judging import INCONCLUSIVE, NOT_JUDGED, NOT_REPRODUCED, REPRODUCED, WITH_CORRECTION

NEUTRAL = "#555555"
CHARACTER, MARGIN = 6.6, 8  # width of a character and of the space beside a text, in pixels at 11 px Verdana
_SHAPE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{text}">'
    "<title>{text}</title>"
    '<rect width="{width}" height="20" rx="3" fill="#333333"/>'
    '<path d="M{left} 0h{inner}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>'
    '<g fill="#ffffff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
    '<text x="{margin}" y="14" textLength="{label_length}">{label}</text>'
    '<text x="{message_at}" y="14" textLength="{message_length}">{message}</text></g></svg>\n'
)


def badge(label: str, message: str, colour: str = NEUTRAL) -> str:
    """An SVG of 20 pixels height: `label` on dark grey, `message` in white on `colour`.

    Every text is stretched to the width that is kept for it, so that it fits in any font.

    >>> badge("claims", "2 reproduced").startswith('<svg xmlns="http://www.w3.org/2000/svg" width="151"')
    True
    """
    lengths = [round(CHARACTER * len(text)) for text in (label, message)]
    left, right = (length + 2 * MARGIN for length in lengths)
    return _SHAPE.format(
        text=escape(f"{label}: {message}", quote=True), label=escape(label), message=escape(message), colour=colour,
        width=left + right, left=left, inner=right - 3, margin=MARGIN, message_at=left + MARGIN,
        label_length=lengths[0], message_length=lengths[1],
    )  # fmt: skip


def in_words(verdicts: Iterable[str]) -> str:
    """How often each verdict occurs; inconclusive claims and those not judged are open. Zero counts are left out.

    >>> in_words(["reproduced", "reproduced", "reproduced with correction", "inconclusive", "not judged"])
    '2 reproduced, 1 with correction, 2 open'
    """
    counts = Counter(verdicts)
    named = {
        "reproduced": counts[REPRODUCED],
        "with correction": counts[WITH_CORRECTION],
        "not": counts[NOT_REPRODUCED],
        "open": counts[INCONCLUSIVE] + counts[NOT_JUDGED],
    }
    return ", ".join(f"{number} {name}" for name, number in named.items() if number) or "none"


def of_verdicts(verdicts: Iterable[str], label: str = "claims") -> str:
    """The badge of these verdicts; its words say everything, so its colour does not depend on them."""
    return badge(label, in_words(verdicts), "#1f6aa5")
