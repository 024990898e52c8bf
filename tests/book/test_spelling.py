"""Every word of the book is in an English dictionary or in the book's own list, `book/words.txt`."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator

import pytest
from prose import passages, words
from spellchecker import SpellChecker
from tiny_book import ROOT

BRITISH = (
    (re.compile(r"(?<=\w{3})is(?=e[drs]?$|ers$|ing$|ations?$|able$)"), "iz"),
    (re.compile(r"our(?=\w{0,5}$)"), "or"),
)
OWN = (ROOT / "book/words.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def english() -> SpellChecker:
    return SpellChecker(language="en", distance=1)


@pytest.fixture(scope="module")
def book() -> list[tuple[str, str]]:
    return list(passages(ROOT))


def is_english(word: str, english: SpellChecker) -> bool:
    """Whether the dictionary, which is an American one, has a word in lower case, or the word that it is in British."""
    forms = {word, *(pattern.sub(american, word) for pattern, american in BRITISH)}
    return any(form in english for form in forms)


def misspelt(prose: Iterable[tuple[str, str]], english: SpellChecker) -> Iterator[str]:
    """A line for each place and word that neither the dictionary nor the list has."""
    known = set(OWN)
    for where, text in prose:
        for word in sorted({word for word in words(text) if word.lower() not in known}):
            if not is_english(word.lower(), english):
                guess = english.correction(word.lower())
                yield f"{where}: {word}" + (f" (did you mean {guess}?)" if guess not in (None, word.lower()) else "")


def test_every_word_of_the_book_is_spelt_as_in_a_dictionary(book, english):
    found = list(misspelt(book, english))
    assert found == [], "correct them, or add what is right to book/words.txt:\n" + "\n".join(found)


@pytest.mark.parametrize("word", ["normalised", "recognisers", "initialisation", "colours", "neighbouring", "rise"])
def test_british_spellings_are_english(word, english):
    assert is_english(word, english)


@pytest.mark.parametrize("word", ["normelised", "recieve", "coulour", "plastisity", "initialisasion", "neihgbour"])
def test_misspelt_words_are_not(word, english):
    assert not is_english(word, english)


def test_the_list_of_words_is_sorted_and_holds_nothing_that_the_book_or_the_dictionary_makes_needless(book, english):
    assert sorted(set(OWN)) == OWN and all(word == word.lower() for word in OWN)
    used = {word.lower() for _, text in book for word in words(text)}
    assert [word for word in OWN if word not in used or is_english(word, english)] == []


def test_a_misspelling_is_found_with_its_page_and_cell_wherever_it_stands(tmp_path, english):
    (tmp_path / "book/api").mkdir(parents=True)
    (tmp_path / "lop_utils").mkdir()
    claim = {"id": "one", "statement": "It has plastisity."}
    (tmp_path / "book/claims.yml").write_text(json.dumps({"claims": [claim]}))
    (tmp_path / "book/api/units.md").write_text("# Units\n\nOf plastisity.\n")
    (tmp_path / "lop_utils/loss.py").write_text('def loss():\n    """Loss of plastisity."""\n')
    shutil.copy(ROOT / "book/05_cloning.ipynb", tmp_path / "book")
    path = tmp_path / "book/05_cloning.ipynb"
    chapter = json.loads(path.read_text(encoding="utf-8"))
    number, cell = next((i, c) for i, c in enumerate(chapter["cells"]) if c["cell_type"] == "markdown")
    cell["source"] = [*cell["source"], "\n\nThe networks keep their plastisity.\n"]
    path.write_text(json.dumps(chapter), encoding="utf-8")
    said = ": plastisity (did you mean plasticity?)"
    assert list(misspelt(passages(tmp_path), english)) == [
        f"book/05_cloning.ipynb, cell {number} ({cell['id']}){said}",
        f"book/api/units.md{said}",
        f"book/claims.yml, claim one{said}",
        f"lop_utils/loss.py, loss{said}",
    ]


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("Networks don't, the unit's do; a re-used one", "Networks don't the unit do re used one"),
        ("the `lerning_rate` and ``gama``", "the and"),
        ("maths $\\alhpa$ and\n$$\nx\n$$ and \\begin{align}\nzz\n\\end{align} end", "maths and and end"),
        ("see {eq}`eqq-one`, {term}`unit`s <b>bold</b> https://wwww.org [a link](to_adress.md)", "see bold link"),
        (":::{prf:theorem} The titel\n:label: thm-laable\nBody\n:::", "The titel Body"),
        (":::{glue:figure} figgure\n:name: fig-nmae\n:alt: A pictrue\nThe captoin.\n:::", "pictrue The captoin"),
        ("before\n```bash\nmkae book\n```\nafter", "before after"),
        ("before\n```{eval-rst}\n.. automodule:: lop_utils.kit\n```\nafter", "before after"),
        ("CBP, ReLU, lop_utils.kit, a/b, 3rd, f(x) and R2", "and"),
        ("(label-of-ths)=\n# A heading", "heading"),
        ("| a column | `code` |\n|---|---|\n| wrods | of it |", "column wrods of it"),
    ],
)
def test_prose_is_what_a_reader_reads(text, prose):
    assert list(words(text)) == prose.split()
