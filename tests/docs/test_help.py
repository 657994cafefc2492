"""`help()` of every public class and function: what it is, types, the shapes that go in, and the errors that it raises."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap

import dassl_vr
from dassl_vr.engine import TrainerX
from dassl_vr.methods import PromptLearning
from dassl_vr.utils import errors

PROPERTIES = (property, functools.cached_property)

# What stands for a size in a shape, one at least, such as in (B, 3, S // p, S // p), (..., width) or (source, target)
SIZES = {*"BCDKLMNSTV", "...", "n", "source", "target", "num_source"}


def has_shape(text):
    brackets = ([part.strip() for part in inside.split(",")] for inside in re.findall(r"\(([^()]*)\)", text))
    return any(len(parts) > 1 and SIZES & set(parts) for parts in brackets)


@functools.cache
def public():
    """{class or function of ours: name} of all that a package has in its `__all__`, or `dassl_vr` itself gives."""
    found = {getattr(dassl_vr, name): name for name in dassl_vr._LATE}
    for module in pkgutil.walk_packages(dassl_vr.__path__, "dassl_vr."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            for name in getattr(package, "__all__", ()):
                thing = getattr(package, name)
                if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("dassl_vr."):
                    found.setdefault(thing, f"{module.name}.{name}")
    return found


def classes():
    return {thing: name for thing, name in public().items() if inspect.isclass(thing)}


def members(thing):
    """(name, value) of the methods and properties that a class defines itself for others."""
    for name, value in vars(thing).items():
        inner = next((getattr(value, part) for part in ("fget", "func", "__func__") if hasattr(value, part)), value)
        if inspect.isfunction(inner) and not name.startswith("_"):
            yield name, value


def text_of(thing, name):
    """What `help` shows of a member: its own text, or that of the nearest base which has one. Torch's of `forward` says nothing.

    Of a method the trainer, on which its registration puts it, is such a base.
    """
    bases = [*thing.__mro__, *(TrainerX.__mro__ if issubclass(thing, PromptLearning) else ())]
    texts = (getattr(base.__dict__.get(name), "__doc__", None) for base in bases)
    text = next(filter(None, texts), "")
    return "" if text.lstrip().startswith("Define the computation performed at every call") else text


def callables():
    """(name, function, what help says of it) of functions, constructors and methods; of the last two that of the class too."""
    for thing, name in public().items():
        if inspect.isfunction(thing):
            yield name, thing, thing.__doc__
            continue
        if inspect.isfunction(vars(thing).get("__init__")) and "__dataclass_fields__" not in vars(thing):
            yield name, thing.__init__, thing.__doc__
        for member, value in members(thing):
            if not isinstance(value, PROPERTIES):
                yield f"{name}.{member}", getattr(value, "__func__", value), f"{text_of(thing, member)}\n{thing.__doc__}"


def raised(function):
    """The exceptions that a function raises itself; its contract, `NotImplementedError`, does not count."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc).rpartition(".")[2]
            kind = getattr(errors, name, None) or getattr(importlib.import_module("builtins"), name, None)
            if kind not in (None, NotImplementedError):  # None: a variable, which was caught
                yield kind


def test_the_walk_finds_what_is_public():
    assert {"run", "dassl_vr.reprogramming.Ilm", "dassl_vr.deploy.PromptedModel"} <= set(public().values())
    assert len(classes()) > 50 and len(list(callables())) > 200


def test_everything_says_what_it_is():
    assert [name for thing, name in public().items() if not (thing.__doc__ or "").strip()] == []


def test_members_say_what_they_are():
    """A property may be described where the class lists its attributes or arguments."""
    silent = []
    for thing, name in classes().items():
        described = {word for base in thing.__mro__ for word in re.findall(r"\w+(?=[\w, ]*: |`)", base.__doc__ or "")}
        for member, value in members(thing):
            if not text_of(thing, member) and not (isinstance(value, PROPERTIES) and member in described):
                silent.append(f"{name}.{member}")
    assert silent == []


def test_every_argument_has_a_type():
    bare = []
    for name, function, _ in callables():
        parameters = inspect.signature(function).parameters.values()
        bare += [f"{name}: {p.name}" for p in parameters if p.annotation is p.empty and p.name not in ("self", "cls")]
    assert bare == []


def test_tensors_that_go_in_have_a_shape():
    any_shape = ("build_optimizer", "replaced_weights", "load_extra_state")  # parameters, and what was given before
    without = []
    for name, function, text in callables():
        types = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
        if any("Tensor" in kind for kind in types) and not has_shape(text) and not name.endswith(any_shape):
            without.append(name)
    assert without == []


def test_errors_that_it_raises_are_named():
    unnamed = []
    for name, function, text in callables():
        for kind in raised(function):
            names = [base.__name__ for base in kind.__mro__ if base not in (Exception, BaseException, object)]
            if not any(known in text for known in names):
                unnamed.append(f"{name}: {kind.__name__}")
    assert unnamed == []
