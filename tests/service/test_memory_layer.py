"""The memory layer: byte cap, order of leaving, time to live."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.memory_layer import ENTRY_OVERHEAD, MemoryLayer
from tests.service.clock import Clock

LAYOUT = b"layout"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300), st.booleans()), max_size=60),
    st.integers(0, 5 * ENTRY_OVERHEAD),
)
def test_the_cap_holds_and_the_bytes_add_up(actions, cap):
    layer = MemoryLayer(cap, 60.0, Clock())
    expected: dict[bytes, bytes] = {}  # in order of use
    for number, size, put in actions:
        key = bytes([number])
        if put:
            value = bytes(size)
            expected.pop(key, None)
            if size + ENTRY_OVERHEAD <= cap:
                expected[key] = value
            gone = 0
            while sum(len(v) + ENTRY_OVERHEAD for v in expected.values()) > cap:
                del expected[next(iter(expected))]
                gone += 1
            assert layer.put_many([key], LAYOUT, [value]) == gone
        else:
            assert layer.get_many([key], LAYOUT) == [expected.get(key)]
            if key in expected:
                expected[key] = expected.pop(key)
        assert layer.used_bytes == sum(len(value) + ENTRY_OVERHEAD for value in expected.values()) <= cap
        assert len(layer) == len(expected)


def test_a_value_lives_for_its_time():
    clock = Clock()
    layer = MemoryLayer(10_000, 60.0, clock)
    layer.put_many([b"a"], LAYOUT, [b"1"])
    clock.now += 59.0
    layer.put_many([b"b"], LAYOUT, [b"2"])
    assert layer.get_many([b"a", b"b"], LAYOUT) == [b"1", b"2"]
    clock.now += 1.0
    assert layer.get_many([b"a", b"b"], LAYOUT) == [None, b"2"]
    assert len(layer) == 1
    assert layer.used_bytes == 1 + ENTRY_OVERHEAD


def test_a_value_of_another_layout_is_not_there():
    layer = MemoryLayer(10_000, 60.0, Clock())
    layer.put_many([b"a"], LAYOUT, [b"1"])
    assert layer.get_many([b"a"], b"other") == [None]
