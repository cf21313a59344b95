"""What a person sees of the words in a drawing: where they stand, and whether any two stand on each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from playwright.sync_api import Page

_SEEN = """svg => [...svg.querySelectorAll("text")].filter(
    (text) => getComputedStyle(text).visibility === "visible" && text.textContent.trim()
).map((text) => { const at = text.getBBox(); return [text.lastChild.textContent, at.x, at.y, at.width, at.height]; })"""
_CONTRAST = """svg => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...svg.querySelectorAll("a")].filter((a) => a.querySelector("text")).map((a) => {
    const [one, other] = ["text", "rect, path, circle"].map(
      (part) => light(getComputedStyle(a.querySelector(part)).fill));
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
}"""


def overlapping(page: Page, drawing: str) -> list[tuple[str, str]]:
    """Pairs of words that stand on each other (by more than the rounding of a px)."""
    seen: list[list[Any]] = page.locator(drawing).evaluate(_SEEN)
    return [(one[0], other[0]) for one, other in combinations(seen, 2) if _meet(one[1:], other[1:])]


def texts(page: Page, drawing: str) -> list[str]:
    return [one[0] for one in page.locator(drawing).evaluate(_SEEN)]


def contrasts(page: Page, drawing: str) -> list[float]:
    """Of the words of each link in a drawing with the shape that they are on."""
    found: list[float] = page.locator(drawing).evaluate(_CONTRAST)
    return found


def _meet(one: list[float], other: list[float]) -> bool:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return across > 0.5 and down > 2.5
