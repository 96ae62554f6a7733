"""Fixtures of all tests."""

import pytest
from kernel_testing import TIERS

from fastgd import _core


@pytest.fixture(params=TIERS)
def tier(request):
    """Runs the test on each tier of this CPU in turn."""
    tier_before, threads_before = _core.current_tier(), _core.get_num_threads()
    _core.select_tier(request.param)
    yield request.param
    _core.select_tier(tier_before)
    _core.set_num_threads(threads_before)
