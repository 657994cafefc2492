"""The trainer registry, and what has to be settled in a configuration before a trainer is built from it."""

import traceback
from collections.abc import Callable, Sequence

import yacs.config
from yacs.config import CfgNode

from ..backbones import ALIASES, BackboneSpec, backbone_spec, check_backbone
from ..data import DATASET_REGISTRY, build_transform
from ..evaluation import EVALUATOR_REGISTRY
from ..utils.errors import ConfigError
from ..utils.registry import Registry
from .trainer import SimpleTrainer, TrainerBase, TrainerX


def put_on(method: type, trainer: type) -> type:
    """The class of `method` that trains by the loop of `trainer`: a subclass of both, with the name of the method.

    `super()` in the method's body finds the trainer behind it.
    """
    described = {"__module__": method.__module__, "__qualname__": method.__qualname__, "__doc__": method.__doc__}
    return type(method.__name__, (method, trainer), described)


class TrainerRegistry(Registry):
    """Trainers by name. A class that is no trainer, but a method alone, is put on `TrainerX` when it is registered.

    `get` gives the trainer, `declared` what was registered: an original Dassl puts the same method on a trainer of its own. The
    decorator leaves the method as it is, so that others can be derived from it.
    """

    def __init__(self, kind: str):
        super().__init__(kind)
        self._declared = {}  # public name -> what was registered

    def register(
        self, obj: Callable | None = None, force: bool = False, *, name: str | None = None, aliases: Sequence[str] = ()
    ) -> Callable:
        if obj is None:
            return super().register(None, force, name=name, aliases=aliases)
        is_method = isinstance(obj, type) and not issubclass(obj, TrainerBase)
        super().register(put_on(obj, TrainerX) if is_method else obj, force, name=name, aliases=aliases)
        self._declared[name or obj.__name__] = obj
        return obj

    def declared(self, name: str) -> type:
        """The class that was registered as `name`. Raises `ConfigError` as `get`."""
        return self._declared[self.canonical_name(name)]


TRAINER_REGISTRY = TrainerRegistry("trainer")


def build_trainer(cfg: CfgNode) -> SimpleTrainer:
    """The trainer that `cfg.TRAINER.NAME` names, with its data loaders and model built.

    Raises:
        ConfigError: it reads a key that nobody declares, or cannot work as configured.
        DataError, WeightsError: images or weights are missing or unreadable.
    """
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        print(f"Loading trainer: {TRAINER_REGISTRY.canonical_name(cfg.TRAINER.NAME)}")
    try:
        return trainer(cfg)
    except AttributeError as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename != yacs.config.__file__:
            raise
        raise ConfigError(
            f"trainer {cfg.TRAINER.NAME} reads a key '{error}' that is not declared; give it a default in `extend_cfg(cfg)`"
            " of a --plugin file (the family has such a function in its train.py, which can be given as --plugin)"
        ) from error


def resolve_cfg(cfg: CfgNode) -> None:
    """Check every name in `cfg` and fill in what depends on the backbone (`resolve_input`), in place, without building anything.

    Names become those registered, whatever their case.

    Raises:
        ConfigError: unknown names (all of them in one line), or a backbone of a kind that the trainer cannot take.
    """
    problems = []
    trainer = _find(TRAINER_REGISTRY, cfg.TRAINER.NAME, "--trainer or TRAINER.NAME", problems)
    _find(DATASET_REGISTRY, cfg.DATASET.NAME, "--dataset-config-file or DATASET.NAME", problems)
    _find(EVALUATOR_REGISTRY, cfg.TEST.EVALUATOR, "TEST.EVALUATOR", problems)
    try:
        resolve_input(cfg, trainer)
    except ConfigError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    cfg.TRAINER.NAME = TRAINER_REGISTRY.canonical_name(cfg.TRAINER.NAME)
    cfg.DATASET.NAME = DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)
    for is_train in (True, False):
        build_transform(cfg, is_train)  # raises for wrong settings; the data manager builds its own


def resolve_input(cfg: CfgNode, trainer: type | None) -> None:
    """Fill in what the images have to be like for the backbone, in place.

    `INPUT.SIZE (0, 0)` becomes the size that the backbone was trained at; `INPUT.PIXEL_MEAN` and `PIXEL_STD` become those of its
    weights if `MODEL.BACKBONE.NORM` is "weights". Not for a trainer without `backbone_kinds`: it may build a backbone of its own
    under a name of its own (the family's "RN50" is a CLIP), so `INPUT` is left as it was written.

    Args:
        trainer: the trainer's class.

    Raises:
        ConfigError: no such backbone, or of a kind that the trainer cannot take.
    """
    kinds = getattr(trainer, "backbone_kinds", None)
    spec = None
    if kinds is not None:
        try:
            spec = backbone_spec(cfg.MODEL.BACKBONE.NAME)
        except ConfigError as error:
            hint = "" if cfg.MODEL.BACKBONE.NAME else " (give one with --backbone or MODEL.BACKBONE.NAME)"
            raise ConfigError(f"{error}{hint}") from error
        if not takes(trainer, spec):
            raise ConfigError(_impossible(cfg.TRAINER.NAME, trainer, spec))
        if cfg.MODEL.BACKBONE.NORM == "weights":
            cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(spec.mean), list(spec.std)
    if tuple(cfg.INPUT.SIZE) == (0, 0):
        cfg.INPUT.SIZE = (spec.input_size, spec.input_size) if spec else (224, 224)


def check_side(cfg: CfgNode) -> None:
    """Ask the backbone of a resolved `cfg`, without weights, whether it takes images of this size and sees all of them.

    Raises:
        ConfigError: it does not; names sides that fit.
    """
    if getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "backbone_kinds", None) is not None:
        check_backbone(cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE[0])


def takes(trainer: type, spec: BackboneSpec) -> bool:
    """Whether a trainer's class works on a backbone with this `BackboneSpec`; one that does not say takes any."""
    kinds = getattr(trainer, "backbone_kinds", None)
    needed = [fact for fact in ("tokens", "text_tokens") if getattr(trainer, f"needs_{fact}", False)]
    return kinds is None or (spec.kind in kinds and all(getattr(spec, fact) for fact in needed))


def _impossible(name, trainer, spec):
    """In one line: what the trainer takes instead, and what takes the backbone instead."""
    kind = "clip without a plain transformer" if spec.kind == "clip" and not spec.tokens else spec.kind
    wanted = " or ".join(trainer.backbone_kinds) + (" with a plain transformer" if getattr(trainer, "needs_tokens", False) else "")
    if spec.kind == "clip" and not spec.text_tokens:
        kind = "clip whose text tower takes no learned tokens"
        wanted += " whose text tower is CLIP's own" if getattr(trainer, "needs_text_tokens", False) else ""
    backbones = ", ".join(alias for alias in ALIASES if "/" not in alias and takes(trainer, backbone_spec(alias)))
    others = ", ".join(other for other in TRAINER_REGISTRY.registered_names() if takes(TRAINER_REGISTRY.get(other), spec))
    return (
        f"trainer {name} cannot be combined with {spec.name}, a {kind}: it takes {wanted} ({backbones} and the like);"
        f" a {kind} goes with {others}"
    )


def _find(registry, name, where, problems):
    if not name:
        problems.append(f"no {registry.kind} given; name one with {where} (known: {', '.join(registry.registered_names())})")
        return None
    try:
        return registry.get(name)
    except ConfigError as error:
        problems.append(str(error))
        return None
