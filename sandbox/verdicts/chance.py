"""Drawn numbers, quickly, and without anything to install."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

SMALL = 30.0


def poisson(draw: Random, mean: float) -> int:
    """How many came, of so many expected."""
    if mean <= 0:
        return 0
    if mean > SMALL:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    found, product, end = 0, draw.random(), math.exp(-mean)
    while product > end:
        found += 1
        product *= draw.random()
    return found


def binomial(draw: Random, number: int, share: float) -> int:
    """How many of ``number`` are of a kind."""
    if number <= 0 or share <= 0:
        return 0
    if share >= 1:
        return number
    if share > 0.5:
        return number - binomial(draw, number, 1 - share)
    if number <= 20:
        return sum(draw.random() < share for _ in range(number))
    if number * share <= SMALL:
        return min(number, poisson(draw, number * share))
    return min(number, max(0, round(draw.gauss(number * share, math.sqrt(number * share * (1 - share))))))


def spread(draw: Random, number: int, shares: Sequence[float]) -> list[int]:
    """How many of ``number`` are of each kind; the shares together are 1."""
    found, left, rest = [], number, 1.0
    for share in shares:
        count = binomial(draw, left, share / rest if rest > 1e-12 else 1.0) if left else 0
        found.append(count)
        left, rest = left - count, rest - share
    if left:
        found[max(range(len(shares)), key=shares.__getitem__)] += left
    return found


def between(draw: Random, low: float, high: float) -> float:
    """Any size between the two is as likely as any other."""
    return low * (high / low) ** draw.random()
