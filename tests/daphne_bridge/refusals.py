"""What a call is refused with."""

import pytest


def refusal(error, call, *arguments):
    """The one problem of the error that a call raises."""
    with pytest.raises(error) as caught:
        call(*arguments)
    (problem,) = caught.value.problems
    return problem
