"""Directions: what single pictures tell of them, and what the pictures of a clip tell together.

A direction is an azimuth: at 0 the front is seen, at 90 the nose points to the picture's left, at
180 the rear is seen. A picture is a witness: it has a log-likelihood of each of 24 directions. A
clip turns smoothly, so its witnesses are heard together, by a hidden Markov model whose states are
directions (Rabiner 1989, forward-backward). One picture that is read backwards is outvoted, and a
clip of which nothing is sure stays unsure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

DIRECTIONS = 24
"""Directions that are told apart, 15 degrees from each other; the first is 0."""
AZIMUTHS = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)

_ENDS_SHOW = 0.35  # cosine from which on all of the front is seen, or all of the rear
TURN_DEG = 45.0
"""Deviation of what a clip turns within a second."""
_LEAST_TURN_DEG = 2.0
_MEMORY_MS = 1000.0  # pictures nearer than this repeat each other's mistakes


def readings_of(azimuths: npt.NDArray[np.floating]) -> Floats:
    """What a perfect reader says of azimuths in radians [N]: front score, cosine, sine [N, 3].

    The score is 1 where the front is seen and -1 where the rear is; it changes its sign within 20
    degrees of a view from the side.
    """
    cosine = np.cos(azimuths)
    return np.stack([np.clip(cosine / _ENDS_SHOW, -1, 1), cosine, np.sin(azimuths)], axis=1)


def mean_readings(directions: Floats) -> npt.NDArray[np.float32]:
    """The mean readings of distributions over directions [N, 24]; unsure ones are short.

    Returns:
        float32 [N, 3], front score, cosine and sine.
    """
    return np.asarray(directions @ readings_of(AZIMUTHS), np.float32)


def lone_directions(witnesses: Floats) -> Floats:
    """Probabilities [N, 24] of the directions of pictures that are each by themselves.

    Args:
        witnesses: [N, 24], log-likelihoods.
    """
    told = np.exp(witnesses - witnesses.max(axis=1, keepdims=True))
    return np.asarray(told / told.sum(axis=1, keepdims=True))


def clip_directions(
    witnesses: Floats, timestamps_ms: Times, *, turn_deg: float = TURN_DEG
) -> Floats:
    """Probabilities of the directions of one clip's pictures, given all of them.

    Args:
        witnesses: [N, 24], log-likelihoods, one row a picture.
        timestamps_ms: [N], in any order.
        turn_deg: Deviation of what a clip turns within a second.

    Returns:
        [N, 24], each row adds up to 1.
    """
    order = np.argsort(timestamps_ms, kind="stable")
    times = timestamps_ms[order].astype(np.float64)
    heard = witnesses[order] * _weights(times)[:, None]
    turns = [_turning(gap, turn_deg) for gap in np.diff(times)]
    before, after = np.zeros_like(heard), np.zeros_like(heard)
    for place, turn in enumerate(turns, start=1):
        before[place] = _log_through(before[place - 1] + heard[place - 1], turn)
    for place, turn in reversed(list(enumerate(turns))):
        after[place] = _log_through(after[place + 1] + heard[place + 1], turn)
    directions = np.empty_like(heard)
    directions[order] = lone_directions(before + heard + after)
    return directions


def _weights(times: Floats) -> Floats:
    """The weight of each picture, at most 1: pictures that follow at once are one witness."""
    shared = np.clip(1 - np.abs(times[:, None] - times[None]) / _MEMORY_MS, 0, 1)
    return np.asarray(1 / shared.sum(axis=1))


def _turning(gap_ms: float, turn_deg: float) -> Floats:
    """Probabilities [24, 24] of the turn within a time."""
    deviation = np.radians(max(turn_deg * np.sqrt(gap_ms / 1000), _LEAST_TURN_DEG))
    away = np.angle(np.exp(1j * (AZIMUTHS[:, None] - AZIMUTHS[None])))
    likely = np.exp(-np.square(away / deviation) / 2)
    return np.asarray(likely / likely.sum(axis=1, keepdims=True))


def _log_through(values: Floats, turn: Floats) -> Floats:
    """Log of ``turn`` times the exponentials of ``values`` [24]."""
    most = values.max()
    return np.asarray(np.log(np.maximum(turn @ np.exp(values - most), 1e-300)) + most)
