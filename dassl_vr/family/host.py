"""Our trainers and data sets inside an installed original Dassl; `dassl_vr.register` is the way in.

A trainer of ours is declared as a method alone; here it is put on `HostTrainer`, which is the original's `TrainerX` with its data
manager, plus the few things that our methods use and the original lacks.
"""

import dassl.data
import dassl.data.datasets
import dassl.engine
import torch
from dassl.config.defaults import _C as HOST_DEFAULTS
from torch.utils.data import DataLoader
from yacs.config import CfgNode as CN

from ..config import get_cfg_default, validate_cfg
from ..data import DATASET_REGISTRY, build_transform
from ..data.datasets import read_item_image
from ..data.datasets.build import set_grey_bits
from ..engine import TRAINER_REGISTRY, SimpleTrainer, TrainerBase
from ..engine.build import put_on, resolve_input
from ..engine.charts import attempt
from ..engine.trainer import resolve_precision
from ..optim import epochs_for
from ..plugins import load_plugins
from ..report.projector import write_projector
from ..utils.devices import AUTO
from ..utils.distributed import StepShare
from ..utils.errors import ConfigError

# Facts of a data set; None = not set by the user, so that what the data set states applies
FACTS = ("FLIP", "NATIVE_SIZE", "BATCH_LIMIT", "TEMPLATE")


class HostDatasetWrapper(dassl.data.DatasetWrapper):
    """The original's wrapper, for images that are in memory as well."""

    def __getitem__(self, idx):
        datum = self.data_source[idx]
        image = read_item_image(datum)
        item = {"label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx}
        item["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            item["img0"] = self.to_tensor(image)
        return item


class HostDataManager(dassl.data.DataManager):
    """The original's data manager with our transforms, DATALOADER.TRAIN_X.DROP_LAST and the loaders of all training images."""

    def __init__(self, cfg):
        transforms = [build_transform(cfg, is_train) for is_train in (True, False)]
        super().__init__(cfg, *transforms, dataset_wrapper=HostDatasetWrapper)
        self.tfm_test = transforms[1]
        set_grey_bits(self.dataset, cfg.DATASET.GREY_BITS)
        loader = self.train_loader_x
        if not cfg.DATALOADER.TRAIN_X.DROP_LAST:
            self.train_loader_x = _loader_like(loader, loader.dataset, loader.batch_size, loader.sampler)
        self.train_loader_all, self.train_loader_plain = (
            _loader_like(loader, HostDatasetWrapper(cfg, self.dataset.train_x, transform=transform), cfg.DATALOADER.TEST.BATCH_SIZE)
            for transform in transforms
        )


def _loader_like(loader, dataset, batch_size, sampler=None):
    workers = {"num_workers": loader.num_workers, "pin_memory": loader.pin_memory}
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, **workers)


class HostTrainer(dassl.engine.TrainerX):
    """The original's `TrainerX` with what our trainers use besides the family's surface.

    Checkpoints hold what is trained (a frozen backbone is not), are read without unpickling code, and are found whether or not a
    validation result was stored.
    """

    save_model = SimpleTrainer.save_model
    load_model = SimpleTrainer.load_model
    resume_model_if_exist = SimpleTrainer.resume_model_if_exist
    count_parameters = SimpleTrainer.count_parameters
    steps_done = SimpleTrainer.steps_done
    step_share = StepShare()  # of the only process

    def __init__(self, cfg):
        cfg = resolve_host_cfg(cfg, type(self))
        device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")  # as the original chooses it
        if cfg.DEVICE not in (AUTO, device.type):
            raise ConfigError(f"DEVICE is '{cfg.DEVICE}', but the original Dassl computes on {device.type}; set USE_CUDA alone")
        self.precision = resolve_precision(cfg.TRAIN.PRECISION, device)
        if self.precision == "fp16":
            if cfg.TRAIN.PRECISION == "fp16":
                raise ConfigError("TRAIN.PRECISION fp16 needs a loss scaler, which the original Dassl lacks; use bf16 or fp32")
            self.precision = "fp32"
        if cfg.TRAIN.GRAPH:
            raise ConfigError("TRAIN.GRAPH: the original Dassl looks at the loss of every step; set it to False")
        self.results = {}
        super().__init__(cfg)

    def build_data_loader(self) -> None:
        self.dm = HostDataManager(self.cfg)
        names = ("train_loader_x", "train_loader_u", "val_loader", "test_loader", "num_classes", "num_source_domains", "lab2cname")
        for name in names:
            setattr(self, name, getattr(self.dm, name))
        if not self.max_epoch:
            images = len(self.dm.dataset.train_x)
            self.max_epoch = epochs_for(self.cfg.OPTIM, images, self.num_classes, len(self.train_loader_x))

    def train(self) -> None:
        super().train()
        if self.cfg.TRAIN.END_FIGURES:
            attempt("the features in TensorBoard's projector", write_projector, self)
        super().close_writer()

    def close_writer(self) -> None:
        """The original closes it before the features are written; `train` does it after."""

    def test(self, split: str | None = None) -> float:
        result = super().test(split)
        self.results[split or self.cfg.TEST.SPLIT] = {"accuracy": result}
        return result


def resolve_host_cfg(cfg: CN, trainer: type) -> CN:
    """A copy of the original's `cfg` with what follows from the data set and the backbone filled in, checked."""
    cfg = _with_facts(cfg)
    if cfg.DATASET.BATCH_LIMIT:
        cfg.DATALOADER.TRAIN_X.BATCH_SIZE = min(cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.DATASET.BATCH_LIMIT)
    resolve_input(cfg, trainer)
    validate_cfg(cfg)
    cfg.freeze()
    return cfg


def _with_facts(cfg):
    """A copy of `cfg` where the facts of the data set, ours or the original's of the same name, fill in what was not set."""
    cfg = cfg.clone()
    cfg.defrost()
    name = cfg.DATASET.NAME
    facts = getattr(DATASET_REGISTRY.get(name), "facts", {}) if name in DATASET_REGISTRY else {}
    ours = get_cfg_default().DATASET
    for key, fact in {**{key: ours[key] for key in FACTS}, **facts}.items():
        if cfg.DATASET[key] == HOST_DEFAULTS.DATASET[key]:
            cfg.DATASET[key] = fact
    return cfg


def _methods() -> list:
    """Our methods on `HostTrainer`. Leaves out, and names, what is declared as a trainer of ours: its loop cannot run here."""
    names = TRAINER_REGISTRY.registered_names()
    ours = [name for name in names if issubclass(TRAINER_REGISTRY.declared(name), TrainerBase)]
    if ours:
        print(
            f"dassl_vr leaves out trainers that are declared with our TrainerX, not as a method alone: {', '.join(ours)};"
            " declare them as `class X(VisualReprogramming)` or the like"
        )
    return [put_on(TRAINER_REGISTRY.declared(name), HostTrainer) for name in names if name not in ours]


def data_set_on_host(name: str, cls: type) -> type:
    """A data set of ours under `name` for the original's registry."""

    def __init__(self, cfg):
        cls.__init__(self, _with_facts(cfg))
        in_memory = any(getattr(item, "in_memory", False) for item in self.train_x[:1])
        trainer = dassl.engine.TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        if in_memory and not issubclass(trainer, HostTrainer):
            raise ConfigError(
                f"data set {name} is in memory, where trainer {cfg.TRAINER.NAME} of the original Dassl cannot read it;"
                " use a trainer of dassl_vr or another data set"
            )

    return type(name, (cls,), {"__init__": __init__})


def publish() -> None:
    """Add to the original what it lacks: our keys to its defaults, our trainers and data sets to its registries.

    What is there already stays as it is; what comes later under a name of ours takes it.
    """
    load_plugins()
    missing = get_cfg_default()
    for key in FACTS:
        missing.DATASET[key] = None
    _add_missing(HOST_DEFAULTS, missing)  # in place: the family's train.py has imported a function that clones it
    names = DATASET_REGISTRY.registered_names()
    data_sets = [data_set_on_host(name, DATASET_REGISTRY.get(name)) for name in names]
    trainers = _register(dassl.engine.TRAINER_REGISTRY, _methods())
    data_sets = _register(dassl.data.datasets.DATASET_REGISTRY, data_sets)
    print(f"dassl_vr published trainers: {', '.join(trainers)}; data sets: {', '.join(data_sets)}")


def _register(registry, classes):
    """Register `classes` where the name is free, and have them make way for whoever asks for the name later; returns the names."""
    published = {cls.__name__: cls for cls in classes if cls.__name__ not in registry.registered_names()}
    register = registry.register
    for cls in published.values():
        register(cls)

    def register_over_ours(obj=None, force=False):
        if obj is None:
            return lambda decorated: (register_over_ours(decorated, force), decorated)[1]
        name = obj.__name__
        ours = name in published and registry.get(name) is published[name]
        return register(obj, force=force or ours)

    registry.register = register_over_ours
    return list(published)


def _add_missing(node, source):
    """Copy every key of `source` that `node` lacks."""
    for key, value in source.items():
        if key not in node:
            node[key] = value
        elif isinstance(value, CN) and isinstance(node[key], CN):
            _add_missing(node[key], value)
