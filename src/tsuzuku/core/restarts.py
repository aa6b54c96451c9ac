"""Whether a run that ended badly is started again by itself, and when. A pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RestartSettings

LONGEST_DELAY = 300.0
"""Seconds up to which the delay is doubled."""

POINTLESS = frozenset(
    {
        "bad_plugin",
        "bad_setting",
        "empty_dataset",
        "missing_data",
        "non_finite",
        "not_found",
        "other_versions",
        "out_of_memory",
        "path_not_shared",
        "ray_missing",
        "too_few_devices",
        "unknown_dataset",
        "unknown_model",
        "wrong_input",
    }
)
"""Error codes of failures that the same training would only meet again."""


@dataclass(frozen=True)
class Restart:
    """The next attempt is due `delay` seconds after the end of the last; it is number `count`."""

    delay: float
    count: int


@dataclass(frozen=True)
class GivenUp:
    """It ended `count` times in a row without a new checkpoint."""

    count: int


def next_restart(
    attempts: Sequence[Attempt], tip_step: int, policy: RestartSettings, error_code: str = ""
) -> Restart | GivenUp | None:
    """What becomes of a run whose newest attempt crashed or failed; None if nothing.

    `attempts`: oldest first. `tip_step`: global step of the newest checkpoint, 0 without one.
    An attempt without a new checkpoint counts against `max_attempts`; one with any clears the
    count, so that a training which gets on is restarted for ever.
    """
    if policy.policy == "never" or not attempts:
        return None
    if attempts[-1].status == "failed" and error_code in POINTLESS:
        return None
    in_vain, reached = 0, tip_step
    for attempt in reversed(attempts):
        # the first attempt is no restart; one that died before it knew where it began has step 0
        if attempt.attempt == 1 or reached > attempt.start_step > 0:
            break
        in_vain += 1
        reached = attempt.start_step or reached
    if in_vain >= policy.max_attempts:
        return GivenUp(in_vain)
    longest = max(LONGEST_DELAY, policy.delay)
    return Restart(min(policy.delay * 2.0 ** min(in_vain, 60), longest), in_vain + 1)
