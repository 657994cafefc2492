"""Small helpers under the family's names."""

from .errors import ConfigError
from .registry import unknown_name_message


def check_availability(requested, available):
    """Raise `ConfigError`, naming the nearest, if `requested` is not one of `available`."""
    if requested not in available:
        raise ConfigError(unknown_name_message("name", requested, available))


def tolist_if_not(x):
    """`x` itself if it is a list, else a list with `x` in it."""
    return x if isinstance(x, list) else [x]


def count_num_param(model=None, params=None):
    """The number of values in a module's parameters, or in `params` (parameters or optimizer groups).

    Raises:
        ValueError: neither was given.
    """
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("give a model or a list of parameters")
    total = 0
    for item in params:
        total += sum(p.numel() for p in item["params"]) if isinstance(item, dict) else item.numel()
    return total


def open_all_layers(model):
    """Train every layer."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model, open_layers):
    """Train the named child modules only; freeze the others and put them in evaluation mode.

    Raises:
        ConfigError: a name is no child of `model`.
    """
    open_layers = tolist_if_not(open_layers)
    children = dict(model.named_children())
    for layer in open_layers:
        check_availability(layer, list(children))
    for name, module in children.items():
        module.train(name in open_layers)
        module.requires_grad_(name in open_layers)
