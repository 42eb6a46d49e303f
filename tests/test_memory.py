"""The core stays inside the memory it asked for."""

from core_call import CoreCall
from hypothesis import given
from hypothesis import strategies as st
from strategies import problems


@given(p=problems(), threads=st.sampled_from([1, 2, 4, 7]))
def test_nothing_outside_the_queried_sizes_is_written(backend, p, threads):
    for name, memory in CoreCall(p, threads).guarded.items():
        assert memory.intact(), name
