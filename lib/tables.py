"""How do tables stand on a page? Scrolling inside themselves, names as the text writes them, numbers to the right; or as Markdown."""

from __future__ import annotations

import pandas as pd
from bs4 import BeautifulSoup, Tag

from lib.plots import style

ACRONYMS = {word.lower(): word for word in ("AUC", "PPV", "NPV", "F1", "MCC", "ECE", "Brier")}
LONG_TEXT = 40  # characters from which a cell wraps


def dress_tables(content: BeautifulSoup) -> None:
    """Let each table scroll inside itself, reachable by keyboard; set words left and numbers right."""
    for number, table in enumerate(content.find_all("table"), 1):
        del table["border"]
        before = table.find_previous(["h2", "h3", "h4", "summary"])
        box = content.new_tag("div", attrs={"class": "table", "tabindex": "0", "role": "region"})
        box["aria-label"] = f"Table {number}: {heading_text(before) if before else 'results'}"
        wrapper = table.parent
        (wrapper if _only_wraps(wrapper) else table).replace_with(box)
        box.append(table.extract())
        _name_heads(table)
        _speak(table)
        _align(table)


def _only_wraps(tag: Tag | None) -> bool:
    """Is this pandas' own box around a table, with its style?"""
    return (
        tag is not None
        and tag.name == "div"
        and not tag.get("class")
        and tag.find("style", scoped=True) is not None
    )


def _name_heads(table: Tag) -> None:
    for cell in table.find_all("th"):
        if cell.get_text(strip=True):
            cell["scope"] = "col" if cell.find_parent("thead") else "row"
        else:
            cell.name = "td"  # an empty head names nothing


def spoken_name(text: str) -> str:
    """A column's or model's name as the text writes it: `balanced_accuracy` -> balanced accuracy, `auc` -> AUC."""
    if text in style.NAMES:
        return style.NAMES[text]
    words = text.split("_") if text.islower() and " " not in text else [text]
    return " ".join(ACRONYMS.get(word, word) for word in words)


def _speak(table: Tag) -> None:
    """Names of columns and models as the text writes them, and a dash where there is no number."""
    for cell in table.find_all(["td", "th"]):
        text = cell.get_text(strip=True)
        if cell.find(True) is not None or not text:
            continue  # there is more than text in it
        if cell.name == "th" or text in style.NAMES:
            cell.string = spoken_name(text)
        elif text in ("nan", "NaN", "None", "<NA>"):
            cell.string = "–"


def _align(table: Tag) -> None:
    """A column with words in it is set left, its head with it."""
    rows = [row.find_all(["td", "th"]) for row in table.select("tbody tr")]
    heads = [row.find_all(["td", "th"]) for row in table.select("thead tr")]
    width = max(map(len, rows), default=0)
    for column in range(width):
        cells_of = [row[column - width] for row in rows if len(row) >= width - column]
        if all(_is_number(cell.get_text(" ", strip=True)) and cell.name == "td" for cell in cells_of):
            continue
        for cell in cells_of + [head[column] for head in heads if len(head) == width]:
            long = len(cell.get_text(strip=True)) > LONG_TEXT
            cell["class"] = [*cell.get("class", []), "text", *(["long"] if long else [])]


def _is_number(text: str) -> bool:
    """A number, an interval, a number with its unit, or a gap."""
    letters = sum(letter.isalpha() for letter in text)
    return (
        text.lower() in ("", "nan", "none", "inf", "-", "–")
        or letters <= 5
        and (text[0].isdigit() or text[0] in "+-−[.<±≥≤")
    )


def heading_text(tag: Tag) -> str:
    """A heading's text without its anchor link."""
    return " ".join(
        "".join(part for part in tag.strings if not part.find_parent("a", class_="anchor-link")).split()
    )


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown, without its index."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
