"""A trainer is declared as a method alone, or with a loop; the registry gives one that trains in both cases."""

import pytest

from dassl_vr.engine import TrainerX, TrainerXU
from dassl_vr.engine.build import TrainerRegistry
from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.registry import plugins_win


class Method:
    """A method alone."""

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        self.seen = [*getattr(self, "seen", ()), "method"]


@pytest.fixture
def registry():
    return TrainerRegistry("trainer")


def test_a_method_alone_is_put_on_the_loop(registry):
    assert registry.register(Method) is Method  # as the decorator leaves it
    trainer = registry.get("method")
    assert issubclass(trainer, Method) and issubclass(trainer, TrainerX) and registry.get("Method") is trainer
    assert registry.declared("method") is Method and not issubclass(Method, TrainerX)
    assert (trainer.__name__, trainer.__module__, trainer.__doc__) == ("Method", __name__, "A method alone.")


def test_super_reaches_the_loop_through_the_methods(registry):
    @registry.register()
    class Derived(Method):
        def check_cfg(self, cfg):
            super().check_cfg(cfg)
            self.seen.append("derived")

    made = object.__new__(registry.get("Derived"))
    made.check_cfg(None)
    assert made.seen == ["method", "derived"] and made.check_cfg.__func__ is Derived.check_cfg


@pytest.mark.parametrize("bases", [(TrainerX,), (Method, TrainerX), (TrainerXU,), (Method, TrainerXU)])
def test_one_with_a_loop_stays_as_it_is(registry, bases):
    trainer = registry.register(type("Whole", bases, {}))
    assert registry.get("Whole") is trainer and registry.declared("Whole") is trainer


def test_a_plugin_replaces_a_method(registry):
    registry.register(Method)
    with plugins_win() as replaced:
        other = registry.register(type("Method", (Method,), {}))
    assert replaced == ["trainer Method"] and registry.declared("Method") is other and issubclass(registry.get("Method"), other)
    with pytest.raises(ConfigError, match="unknown trainer"):
        registry.declared("Other")
