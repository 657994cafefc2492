"""The trainer registry, and what has to be settled in a configuration before a trainer is built from it."""

from ..backbones import backbone_spec
from ..data import DATASET_REGISTRY, build_transform
from ..evaluation import EVALUATOR_REGISTRY
from ..utils.errors import ConfigError
from ..utils.registry import Registry

TRAINER_REGISTRY = Registry("trainer")


def build_trainer(cfg):
    """The trainer that `cfg.TRAINER.NAME` names, with its data loaders and model built."""
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if cfg.VERBOSE:
        print(f"Loading trainer: {TRAINER_REGISTRY.canonical_name(cfg.TRAINER.NAME)}")
    return trainer(cfg)


def resolve_cfg(cfg):
    """Check every name in `cfg` and fill in what depends on the backbone, in place, without building anything.

    Names become those registered, whatever their case. `INPUT.SIZE (0, 0)` becomes the size that the backbone was trained at;
    `INPUT.PIXEL_MEAN` and `PIXEL_STD` become those of its weights if `MODEL.BACKBONE.NORM` is "weights".

    Raises:
        ConfigError: unknown names (all of them in one line), or a backbone of a kind that the trainer cannot take.
    """
    problems = []
    trainer = _find(TRAINER_REGISTRY, cfg.TRAINER.NAME, "--trainer or TRAINER.NAME", problems)
    _find(DATASET_REGISTRY, cfg.DATASET.NAME, "--dataset-config-file or DATASET.NAME", problems)
    _find(EVALUATOR_REGISTRY, cfg.TEST.EVALUATOR, "TEST.EVALUATOR", problems)
    # A trainer of ours says which kinds of backbone it takes; one from elsewhere may build its own, by names of its own.
    kinds = getattr(trainer, "backbone_kinds", None)
    spec = None
    try:
        spec = backbone_spec(cfg.MODEL.BACKBONE.NAME)
    except ConfigError as error:
        if kinds is not None:
            hint = "" if cfg.MODEL.BACKBONE.NAME else " (give one with --backbone or MODEL.BACKBONE.NAME)"
            problems.append(f"{error}{hint}")
    if spec is not None and kinds is not None and spec.kind not in kinds:
        problems.append(f"trainer {cfg.TRAINER.NAME} takes {' or '.join(kinds)} backbones; {spec.name} is a {spec.kind}")
    if problems:
        raise ConfigError("; ".join(problems))
    cfg.TRAINER.NAME = TRAINER_REGISTRY.canonical_name(cfg.TRAINER.NAME)
    cfg.DATASET.NAME = DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)
    if tuple(cfg.INPUT.SIZE) == (0, 0):
        cfg.INPUT.SIZE = (spec.input_size, spec.input_size) if spec else (224, 224)
    if spec is not None and cfg.MODEL.BACKBONE.NORM == "weights":
        cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(spec.mean), list(spec.std)
    for is_train in (True, False):
        build_transform(cfg, is_train)  # for its complaints; the data manager builds its own


def _find(registry, name, where, problems):
    if not name:
        problems.append(f"no {registry.kind} given; name one with {where} (known: {', '.join(registry.registered_names())})")
        return None
    try:
        return registry.get(name)
    except ConfigError as error:
        problems.append(str(error))
        return None
