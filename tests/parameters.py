"""Parameters of tests."""

import pytest


def once_except(values, *everywhere):
    """Returns parameters that run once, except some that each backend runs."""
    assert set(everywhere) <= set(values)
    return [
        pytest.param(
            value,
            id=value,
            marks=() if value in everywhere else pytest.mark.once,
        )
        for value in values
    ]
