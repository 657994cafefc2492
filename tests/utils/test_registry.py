import pytest

from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.registry import Registry


@pytest.fixture
def registry():
    table = Registry("animal")

    @table.register(aliases=("pussy-cat",))
    class Cat:
        pass

    @table.register()
    class Dog:
        pass

    return table


def test_names_ignore_case_and_aliases_work(registry):
    assert registry.get("cat") is registry.get("CAT") is registry.get("Pussy-Cat")
    assert registry.canonical_name("pussy-cat") == "Cat"
    assert "dog" in registry and "cow" not in registry
    assert registry.registered_names() == ["Cat", "Dog"]


def test_unknown_names_the_nearest_and_all(registry):
    with pytest.raises(ConfigError, match="unknown animal 'Dgo'; did you mean 'Dog'.*known: Cat, Dog"):
        registry.get("Dgo")


def test_a_taken_name_is_a_key_error_unless_forced(registry):
    class cat:  # another case of a taken name
        pass

    with pytest.raises(KeyError):
        registry.register(cat)
    registry.register(cat, force=True)
    assert registry.get("Cat") is cat
