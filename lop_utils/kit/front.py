"""What the front page says about the whole book: the map of claims by chapter, and three paths through it with times.

Made from what is recorded, like the ledger: verdicts from the records, run times from the chapters' stamps,
reading times from the chapters' own words. The ledger's notebook, which runs last, glues both for the front page.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from lop_utils import profiles
from lop_utils.evidence.claims import VERDICTS, Verdict
from lop_utils.evidence.paths import book_root
from lop_utils.evidence.render import Html, badge, ledger, table
from lop_utils.kit import stamps
from lop_utils.kit.pages import LEDGER, Page, chapters, read, title

WORDS_A_MINUTE = 200  # of careful reading
SHORT = ("01_losing_plasticity", "05_cloning", "07_continual_learning", "11_continual_backprop")  # in one sitting


@dataclass(frozen=True)
class Entry:
    """One chapter on the map: its page (None if it is not in the book), words, the seconds it takes, verdicts."""

    name: str
    title: str
    page: Page | None
    words: int
    seconds: float | None
    counts: Counter[str]


def entries(verdicts: Sequence[Verdict], profile: str) -> list[Entry]:
    """The chapters that judge a claim or stand in the book, by name; the front page and the ledger are none.

    Raises `UsageError` for an unknown profile.
    """
    profiles.check(profile)
    pages = {page.name: page for page in chapters() if _is_numbered(page)} if book_root() else {}
    found = []
    for name in sorted({*pages, *(verdict.claim.chapter for verdict in verdicts)}):
        page = pages.get(name)
        stamp = stamps.load(page, profile) if page else None
        counts = Counter(verdict.verdict for verdict in verdicts if verdict.claim.chapter == name)
        heading = title(page) if page else name.partition("_")[2].replace("_", " ").capitalize()
        found.append(
            Entry(name, heading, page, words(page) if page else 0, stamp["seconds"] if stamp else None, counts)
        )
    return found


def _is_numbered(page: Page) -> bool:
    return page.name != LEDGER and page.name.partition("_")[0].isdigit()


def words(page: Page) -> int:
    """How many words of prose a chapter has."""
    return sum(len(cell.source.split()) for cell in read(page.path).cells if cell.cell_type == "markdown")


def claims_map(verdicts: Sequence[Verdict], profile: str) -> Html:
    """A grid of chapters by verdicts, with links to the chapters and to their part of the ledger, and the sums."""
    rows = [_row(entry) for entry in entries(verdicts, profile)]
    total = Counter(verdict.verdict for verdict in verdicts)
    rows.append(["all chapters", str(len(verdicts)), *(_cell(name, total[name]) for name in VERDICTS)])
    heads = ["chapter", "claims", *(_hyphenated(name) for name in VERDICTS)]
    judged = "" if profile in profiles.JUDGED else ", which judges nothing"
    html = table(f"Claims by chapter and verdict, from the records of the {profile} profile{judged}", heads, rows)
    html = html.replace("<table>", '<table style="font-size:.85em;line-height:1.5">')
    html = html.replace('class="lop-table"', 'class="lop-table lop-map"')
    return Html(html, "\n".join(f"{name}: {total[name]}" for name in VERDICTS))


def _row(entry: Entry) -> list[str]:
    named = f"{entry.name.partition('_')[0].lstrip('0')}. {escape(_short(entry.title))}"
    head = f'<a href="{entry.name}.html">{named}</a>' if entry.page else named
    claims = sum(entry.counts.values())
    to_ledger = f'<a href="{LEDGER}.html#{anchor(entry.name)}">{claims}</a>' if claims else "0"
    return [head, to_ledger, *(_cell(name, entry.counts[name]) for name in VERDICTS)]


def _short(heading: str) -> str:
    """A chapter's title up to the first colon or comma."""
    return heading.partition(":")[0].partition(",")[0]


def _hyphenated(verdict: str) -> str:
    """The verdict with places where a narrow screen may break it."""
    for start, end in (("repro", "duced"), ("correc", "tion"), ("incon", "clusive")):
        verdict = verdict.replace(start + end, f"{start}&shy;{end}")
    return verdict


def _cell(verdict: str, count: int) -> str:
    return badge(verdict).replace(f">{escape(verdict)}<", f' title="{escape(verdict)}">{count}<') if count else "0"


def anchor(chapter: str) -> str:
    """The id of a chapter's table on the ledger page.

    >>> anchor("05_cloning")
    'ledger-05-cloning'
    """
    return f"ledger-{chapter.replace('_', '-')}"


def folded(verdicts: Sequence[Verdict], chapter: str) -> Html:
    """A chapter's part of the ledger, folded under a line that counts its verdicts; `claims_map` links to it.

    The id is inside what is folded: a link to it unfolds it.
    """
    number, _, name = chapter.partition("_")
    here = [verdict for verdict in verdicts if verdict.claim.chapter == chapter]
    counts = Counter(verdict.verdict for verdict in here)
    title = f"Chapter {int(number)}: {name.replace('_', ' ')}"
    found = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    part = ledger(here, title=title)
    opening = f"<details><summary><strong>{escape(title)}</strong>, {escape(found)}</summary>"
    return Html(f'{opening}<div id="{anchor(chapter)}">{part.html}</div></details>', part.text)


def paths(verdicts: Sequence[Verdict], profile: str) -> Html:
    """Who should read what, in how much time."""
    found = entries(verdicts, profile)
    short = [entry for entry in found if entry.name in SHORT and entry.page]
    links = ", ".join(f'<a href="{entry.name}.html">{int(entry.name[:2])}</a>' for entry in short)
    one = "<code>lop run 05_cloning --profile smoke</code>"
    rows = [
        ["Reader, one sitting", f"chapters {links}", minutes_of(short)],
        ["Reader, all of it", "the chapters in order, the exercises with pen and paper", minutes_of(found)],
        ["Runner", f"a chapter as a notebook: change it and run it; {one}", run_time(found, "smoke", each=True)],
        ["Reproducer", "<code>make book</code> and <code>make check</code>", run_time(found, "laptop")],
    ]
    return Html(
        table("Three paths", ["you are a", "do this", "it takes"], rows), "\n".join(f"{r[0]}: {r[2]}" for r in rows)
    )


def minutes_of(found: Iterable[Entry]) -> str:
    """Reading time in words."""
    return f"{_duration(60 * sum(entry.words for entry in found) / WORDS_A_MINUTE)} of reading"


def run_time(found: Sequence[Entry], profile: str, *, each: bool = False) -> str:
    """Measured wall time of all chapters one after the other, or of `each` one, at a profile."""
    loaded = [stamps.load(entry.page, profile) for entry in found if entry.page]
    seconds = [stamp["seconds"] for stamp in loaded if stamp]
    if not seconds:
        return f"not measured yet at the {profile} profile"
    if each:
        return f"{_duration(min(seconds))} to {_duration(max(seconds))} a chapter at the {profile} profile"
    missing = f" ({len(seconds)} of {len(loaded)} chapters)" if len(seconds) < len(loaded) else ""
    return f"{_duration(sum(seconds))} of computing at the {profile} profile{missing}"


def _duration(seconds: float) -> str:
    """Rounded up, in the unit that fits.

    >>> _duration(12.3), _duration(130), _duration(5600)
    ('13 s', '3 minutes', '1 h 34 min')
    """
    if seconds < 60:
        return f"{-int(-seconds // 1)} s"
    minutes = -int(-seconds // 60)
    return f"{minutes} minutes" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def times(verdicts: Sequence[Verdict], profile: str) -> Html:
    """Reading time and measured run time of each chapter."""
    found, both = entries(verdicts, profile), ("smoke", "laptop")
    rows = [
        [
            f'<a href="{entry.name}.html">{escape(_short(entry.title))}</a>',
            _duration(60 * entry.words / WORDS_A_MINUTE),
            *(_duration(stamp["seconds"]) if stamp else "–" for stamp in (stamps.load(entry.page, p) for p in both)),
        ]
        for entry in found
        if entry.page
    ]
    heads = ["chapter", "reading", *(f"run, {name}" for name in both)]
    caption = "Time for each chapter (–: not measured here)"
    return Html(table(caption, heads, rows), "\n".join(" ".join(row[1:]) for row in rows))
