"""Where segments lie, and what they continue, by hand."""

import pytest

from tunesmith.models.segments import Segment, segments


def test_examples_lie_end_to_end():
    assert segments((3, 1, 2)) == (Segment(0, 3), Segment(3, 4), Segment(4, 6))
    assert [part.num_own for part in segments((3, 1, 2))] == [3, 1, 2]
    assert [part.num_shared for part in segments((3, 1, 2))] == [0, 0, 0]


def test_answers_continue_their_prefix():
    parts = segments((2, 4, 3, 1, 5), (None, None, 1, 1, None))
    assert parts[2:4] == (Segment(6, 9, 2, 6), Segment(9, 10, 2, 6))
    assert [part.num_shared for part in parts] == [0, 0, 4, 4, 0]


@pytest.mark.parametrize(
    "prefixes", [(0, None), (1, None), (None, 1), (None, -1), (None, 0, 1), (None, 5)]
)
def test_a_prefix_is_an_earlier_segment_that_begins_an_example(prefixes):
    with pytest.raises(ValueError, match="which begins no example"):
        segments((2,) * len(prefixes), prefixes)


def test_every_segment_says_what_it_continues():
    with pytest.raises(ValueError, match="zip"):
        segments((2, 2), (None,))
