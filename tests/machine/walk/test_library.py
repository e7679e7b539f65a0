import doctest

from realmkit.machine import walk


def test_the_example_of_the_package_runs() -> None:
    result = doctest.testmod(walk)
    assert result.attempted > 5
    assert result.failed == 0
