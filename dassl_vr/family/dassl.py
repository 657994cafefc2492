"""The door for files written for the original Dassl: they say `from dassl.engine import TrainerX` and get ours.

`open_door()` has the names of Dassl 0.6.3's surface served from this package from now on, in this process only. `--plugin` opens
it; nothing else does, and whether an original could be imported makes no difference.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys

from torch.optim import lr_scheduler

from ..data.datasets import Datum

# Module -> {ours: names in it}. What is not here is not served.
SURFACE = {
    "dassl": {"dassl_vr": ()},
    "dassl.config": {"dassl_vr.config": ("clean_cfg", "get_cfg_default")},
    "dassl.data": {"dassl_vr.data": ("DataManager", "DatasetWrapper")},
    "dassl.data.datasets": {
        "dassl_vr.data.datasets": ("DATASET_REGISTRY", "build_dataset"),
        "dassl_vr.family.datasets": ("DatasetBase",),
    },
    "dassl.data.datasets.base_dataset": {"dassl_vr.family.datasets": ("DatasetBase",)},
    "dassl.data.samplers": {"dassl_vr.data.samplers": ("build_sampler",)},
    "dassl.data.transforms": {"dassl_vr.data.transforms": ("INTERPOLATION_MODES", "build_transform")},
    "dassl.engine": {
        "dassl_vr.engine": ("TRAINER_REGISTRY", "TrainerBase", "build_trainer"),
        "dassl_vr.family.modeling": ("SimpleNet",),
        "dassl_vr.family.trainers": ("SimpleTrainer", "TrainerX", "TrainerXU"),
    },
    "dassl.evaluation": {"dassl_vr.evaluation": ("EVALUATOR_REGISTRY", "Classification", "EvaluatorBase", "build_evaluator")},
    "dassl.metrics": {
        "dassl_vr.evaluation": ("compute_accuracy",),
        "dassl_vr.family.distance": ("compute_distance_matrix", "cosine_distance", "euclidean_squared_distance"),
    },
    "dassl.modeling": {
        "dassl_vr.family.modeling": (
            "BACKBONE_REGISTRY",
            "HEAD_REGISTRY",
            "NETWORK_REGISTRY",
            "Backbone",
            "build_backbone",
            "build_head",
            "build_network",
        ),
    },
    "dassl.optim": {"dassl_vr.optim": ("build_lr_scheduler", "build_optimizer")},
    "dassl.utils": {
        "dassl_vr.family.utils": (
            "check_isfile",
            "count_num_param",
            "download_url",
            "listdir_nohidden",
            "mkdir_if_missing",
            "open_all_layers",
            "open_specified_layers",
            "setup_logger",
        ),
        "dassl_vr.utils.checkpoint": (
            "load_checkpoint",
            "load_pretrained_weights",
            "resume_from_checkpoint",
            "save_checkpoint",
        ),
        "dassl_vr.utils.environment": ("collect_env_info",),
        "dassl_vr.utils.files": ("read_json", "write_json"),
        "dassl_vr.utils.images": ("read_image",),
        "dassl_vr.utils.meters": ("AverageMeter", "MetricMeter"),
        "dassl_vr.utils.misc": ("check_availability", "tolist_if_not"),
        "dassl_vr.utils.registry": ("Registry",),
        "dassl_vr.utils.seeding": ("set_random_seed",),
    },
}
VERSION = "0.6.3"  # whose surface this is


class _Door(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `dassl` and what is in it; nothing else."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "dassl":
            return None
        if name not in SURFACE:
            raise ModuleNotFoundError(f"dassl_vr serves no module '{name}' (it serves {', '.join(SURFACE)})", name=name)
        return importlib.machinery.ModuleSpec(name, self, is_package=any(other.startswith(f"{name}.") for other in SURFACE))

    def create_module(self, spec):
        return None  # an ordinary module

    def exec_module(self, module):
        for ours, names in SURFACE[module.__name__].items():
            for name in names:
                setattr(module, name, getattr(importlib.import_module(ours), name))
        if module.__name__ == "dassl":
            module.__version__ = VERSION
            _take_old_schedules()
            print(f"dassl_vr serves the name 'dassl' (as of version {VERSION}) in this process")
        elif module.__name__ == "dassl.data.datasets.base_dataset":
            module.Datum = _family_datum(module.__name__)
        elif module.__name__ == "dassl.data.datasets":
            module.Datum = importlib.import_module("dassl.data.datasets.base_dataset").Datum


_DOOR = _Door()


def open_door() -> None:
    """Serve `dassl` from ours to whatever imports it from now on; a second call does nothing."""
    if _DOOR not in sys.meta_path:
        sys.meta_path.insert(0, _DOOR)  # before the finder of files, which may know an original


def original() -> str | None:
    """Where the `dassl` that this process has loaded comes from, or None if none is loaded or it is ours."""
    module = sys.modules.get("dassl")
    if module is None or module.__spec__.loader is _DOOR:
        return None
    return getattr(module, "__file__", "unknown place")


def _family_datum(module_name):
    """`Datum` under the name that the original pickles it by: its users' few-shot files are beside the data and are shared."""
    return type("Datum", (Datum,), {"__module__": module_name, "__doc__": Datum.__doc__})


def _take_old_schedules():
    """Have torch's schedules swallow `verbose`, which was their last argument until torch removed it."""
    for cls in vars(lr_scheduler).values():
        if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and "__init__" in vars(cls):
            signature = inspect.signature(cls.__init__)
            if "verbose" not in signature.parameters:
                cls.__init__ = _without_verbose(cls.__init__, len(signature.parameters))


def _without_verbose(init, most):
    @functools.wraps(init)
    def wrapped(*args, verbose=None, **kwargs):
        return init(*args[:most], **kwargs)

    wrapped.__signature__ = inspect.signature(wrapped, follow_wrapped=False)  # has `verbose`: not wrapped again
    return wrapped
