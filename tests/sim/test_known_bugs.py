"""The checkers can fail: every known bug, planted, is caught by some seed. `make mutants` prints the whole table."""

from __future__ import annotations

import pytest

from tests.sim.known_bugs import BUGS, KnownBug, planted
from tests.sim.mutants import hunt
from tests.sim.tiers import Failure, run_seed

SEEDS_MAX = 60
SEEDS_OF_RARE_MAX = 800


@pytest.mark.parametrize("known", BUGS, ids=lambda known: f"{known.number}-{known.name}")
def test_planted_bug_is_caught(known: KnownBug) -> None:
    assert hunt(known, seeds_max=SEEDS_OF_RARE_MAX if known.is_rare else SEEDS_MAX) is not None


def test_a_bug_is_gone_once_it_is_pulled_out() -> None:
    known = next(known for known in BUGS if known.name == "second_vote_in_a_term")
    caught = hunt(known)
    assert caught is not None
    with planted(known):
        assert isinstance(run_seed(known.tier, caught.seed), Failure)

    assert not isinstance(run_seed(known.tier, caught.seed), Failure)


def test_bugs_have_names_of_their_own() -> None:
    assert len({known.name for known in BUGS}) == len(BUGS) >= 30
