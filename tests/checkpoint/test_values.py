"""Values come back as they went, or are refused by name."""

import json
import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.checkpoint.values import dump, load
from tunesmith.errors import CheckpointError

KEYS = st.one_of(st.text(max_size=5), st.sampled_from(["$float", "$tuple", "$dict", "$tensor"]))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=3),
    ),
    max_leaves=12,
)


def there_and_back(value):
    return load(dump(value, "values"), "values")


def same(left, right) -> bool:
    """Equal in value and type, all the way down; -0.0 is not 0.0 and True is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@given(VALUES)
def test_values_come_back_in_value_and_type(value):
    assert same(there_and_back(value), value)


@given(VALUES)
def test_the_text_is_strict_json(value):
    json.loads(dump(value, "values"), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2, 1e308, 2**80])
def test_edges_of_numbers_come_back(value):
    assert same(there_and_back({"x": [value]}), {"x": [value]})


def test_nan_comes_back():
    assert math.isnan(there_and_back((math.nan,))[0])


def test_the_state_of_pythons_generator_comes_back():
    generator = random.Random(3)
    state = there_and_back(generator.getstate())
    other = random.Random()
    other.setstate(state)
    assert [other.random() for _ in range(9)] == [generator.random() for _ in range(9)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": {"b": [1, {2}]}}, r"values\.a\.b\[1\]: got a value of type set"),
        ({"a": b"bytes"}, r"values\.a: got a value of type bytes"),
        ({frozenset(): 1}, r"key of values: got a value of type frozenset"),
        ((object(),), r"values\[0\]: got a value of type object"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value, text):
    with pytest.raises(CheckpointError, match=text):
        dump(value, "values")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"NaN", b'{"$float": "x"}', b'{"$dict": [1]}', b"\xff", b'{"$tuple": 1}']
)
def test_damaged_text_is_a_checkpoint_error(text):
    with pytest.raises(CheckpointError, match=r"state\.json"):
        load(text, "state.json")
