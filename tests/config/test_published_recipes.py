"""What the recipes take from their sources, and where they do not."""

import math
import re
from pathlib import Path

import pytest
import torch

from dassl_vr.backbones import build_backbone
from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml
from dassl_vr.config.validate import lookup
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods.prompt_learning import in_iterations
from dassl_vr.optim import build_lr_scheduler
from dassl_vr.plugins import load_plugins

TRAINERS = Path(__file__).resolve().parents[2] / "configs/trainers"
load_plugins()


def recipe(name, **dataset):
    """The configuration of `<trainer>/<recipe>`, on a data set with these facts."""
    cfg = get_cfg_default()
    merge_mapping(cfg, {"DATASET": dataset}, "facts")
    path = TRAINERS / f"{name}.yaml"
    merge_mapping(cfg, read_yaml(path), path)
    return cfg


def source_labels(name, *settings):
    """What stands as source labels for the classes `one` and `two` of a data set with a template of its own."""
    cfg = recipe(name, TEMPLATE="my {}.")
    cfg.merge_from_list(list(settings))
    clip = build_backbone("tiny_clip", verbose=False)
    source, _ = TRAINER_REGISTRY.get(name.split("/")[0]).build_output(cfg, clip, ["one", "two"])
    return source.source_classes


@pytest.mark.parametrize("path", sorted(TRAINERS.glob("*/*clip*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_the_family_trains_drops_the_last_partial_batch(path):
    """Zhou et al., Khattak et al., Yu et al.: Dassl's loader, `drop_last` in training; the others keep it."""
    family = path.parent.name in ("CoOp", "CoCoOp", "KgCoOp", "MaPLe", "PromptSRC", "TaskRes", "VPT")
    assert family == recipe(f"{path.parent.name}/{path.stem}").DATALOADER.TRAIN_X.DROP_LAST


def test_templates_of_a_text_head():
    assert source_labels("SMM/tiny_clip") == ["my one.", "my two."]
    assert source_labels("VR/clip_vit_b32") == ["my one.", "my two."], "a set of templates is for label mappings"
    assert source_labels("VP/tiny_clip") == ["This is a photo of a one", "This is a photo of a two"]


def test_templates_of_label_mappings():
    """Class by class with the data set's own, as ever; template by template with the published ones, as in their code."""
    labels = source_labels("SMM/tiny_clip", "TRAINER.SMM.MAPPING", "ilm")
    assert len(labels) == 16 and labels[:2] == ["my one.", "itap of a one."] and labels[8] == "my two."
    for trainer in ("SMM", "VR"):
        for mapping in ("flm", "ilm", "blm", "blm+"):
            labels = source_labels(f"{trainer}/clip_vit_b32", f"TRAINER.{trainer}.MAPPING", mapping)
            assert len(labels) == 162
            assert labels[:3] == ["This is a photo of a one.", "This is a photo of a two.", "a bad photo of a one."]


# ------------------------------------------------------------------------------------------- the values of the sources
BATCH, DROP, WATERMARK = (
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "DATALOADER.TRAIN_X.DROP_LAST",
    ("vr_squash", "vr_crop", "vr_flip", "normalize"),
)

# Cai et al., ICML 2024, section 5, appendix A.2, and its code
_SMM_PAPER = {
    **{"OPTIM.NAME": "adam", "OPTIM.LR": 0.01, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 200},
    **{"OPTIM.LR_SCHEDULER": "multi_step", "OPTIM.STEPSIZE": (0.5, 0.72), "OPTIM.GAMMA": 0.1},
    **{BATCH: 256, DROP: False, "MODEL.BACKBONE.NORM": "config"},
}
_IMAGES = {"INPUT.TRANSFORMS": WATERMARK, "INPUT.MARGIN": 32}
_MASK = {"TRAINER.SMM.METHOD": "smm", "TRAINER.SMM.MAPPING": "ilm", "TRAINER.SMM.PATCH_SIZE": 8, "TRAINER.SMM.MASK_INIT": "random"}
_ON_RESNETS = {"INPUT.SIZE": (224, 224), "TRAINER.SMM.LAYERS": 5, "TRAINER.SMM.MASK_LR": 0.01, "TRAINER.SMM.MASK_GAMMA": 0.1}
_ON_VIT = {"INPUT.SIZE": (384, 384), "TRAINER.SMM.LAYERS": 6, "TRAINER.SMM.MASK_LR": 0.001, "TRAINER.SMM.MASK_GAMMA": 1.0}
_VR = {"TRAINER.VR.MAPPING": "ilm", "TRAINER.VR.METHOD": "full"}
# Images and label mapping: Chen et al., CVPR 2023; the batch: Cai et al.
_PAD = {"INPUT.TRANSFORMS": ("vr_pad", "normalize"), "TRAINER.VR.MAPPING": "ilm", "TRAINER.VR.METHOD": "pad"}
# The family's configs (KaiyangZhou/CoOp, muzairkhattak/multimodal-prompt-learning)
_FAMILY = {
    **{"INPUT.SIZE": (224, 224), "INPUT.INTERPOLATION": "bicubic", "MODEL.BACKBONE.NORM": "weights", DROP: True},
    "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
    **{"OPTIM.NAME": "sgd", "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 5e-4, "OPTIM.LR_SCHEDULER": "cosine"},
    **{"OPTIM.WARMUP_EPOCH": 1, "OPTIM.WARMUP_TYPE": "constant", "OPTIM.WARMUP_CONS_LR": 1e-5},
    **{"OPTIM.WARMUP_RECOUNT": True, "OPTIM.COSINE_AFTER_WARMUP": False, "OPTIM.PER_ITERATION": False},
}
_COOP = {
    **_FAMILY,
    **{"OPTIM.LR": 0.002, "OPTIM.MAX_EPOCH": 200, BATCH: 32},
    **{"TRAINER.COOP.N_CTX": 16, "TRAINER.COOP.CSC": False, "TRAINER.COOP.CLASS_TOKEN_POSITION": "end"},
}
_COCOOP = {**_FAMILY, "OPTIM.LR": 0.002, "OPTIM.MAX_EPOCH": 10, BATCH: 1, "TRAINER.COCOOP.CTX_INIT": "a photo of a"}
_MAPLE = {
    **_FAMILY,
    **{"OPTIM.LR": 0.0035, "OPTIM.MAX_EPOCH": 5, BATCH: 4},
    **{"TRAINER.MAPLE.N_CTX": 2, "TRAINER.MAPLE.CTX_INIT": "a photo of a", "TRAINER.MAPLE.PROMPT_DEPTH": 9},
}
# htyao89/KgCoOp: configs/trainers/KgCoOp, scripts/base2new_train.sh and run.sh
_KGCOOP = {
    **{**_FAMILY, "OPTIM.LR": 0.002, "OPTIM.MAX_EPOCH": 100, BATCH: 128},
    **{"TRAINER.KGCOOP.CTX_INIT": "a photo of a", "TRAINER.KGCOOP.CSC": False, "TRAINER.KGCOOP.W": 8.0},
    "TRAINER.KGCOOP.CLASS_TOKEN_POSITION": "end",
}
# muzairkhattak/PromptSRC: configs/trainers/PromptSRC/vit_b16_c2_ep50_batch4_4+4ctx_few_shot.yaml
_PROMPTSRC = {
    **{**_FAMILY, "OPTIM.LR": 0.0025, "OPTIM.MAX_EPOCH": 50, BATCH: 4},
    **{"TRAINER.PROMPTSRC.N_CTX_VISION": 4, "TRAINER.PROMPTSRC.N_CTX_TEXT": 4, "TRAINER.PROMPTSRC.CTX_INIT": "a photo of a"},
    **{"TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION": 9, "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT": 9},
    **{"TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT": 25.0, "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT": 10.0},
    **{"TRAINER.PROMPTSRC.GPA_MEAN": 30.0, "TRAINER.PROMPTSRC.GPA_STD": 30.0},
}
_VPT_ON_CLIP = {
    **_FAMILY,
    **{"OPTIM.LR": 0.0025, "OPTIM.MAX_EPOCH": 5, BATCH: 4},
    **{"TRAINER.VPT.MAPPING": "text", "TRAINER.VPT.METHOD": "deep", "TRAINER.VPT.N_CTX": 8},
}
# Jia et al., ECCV 2022: KMnP/vpt, src/data/transforms.py, src/solver, src/models/mlp.py, configs/base-prompt.yaml
_VPT = {
    **{"INPUT.SIZE": (224, 224), "INPUT.MARGIN": 32, "INPUT.INTERPOLATION": "bilinear", "INPUT.CROP_PADDING": 0},
    "INPUT.TRANSFORMS": ("short_side", "random_crop", "random_flip", "normalize"),
    **{"MODEL.BACKBONE.NAME": "timm:vit_base_patch16_224.orig_in21k", "MODEL.BACKBONE.NORM": "config", BATCH: 128, DROP: False},
    **{"OPTIM.NAME": "sgd", "OPTIM.MOMENTUM": 0.9, "OPTIM.MAX_EPOCH": 100, "OPTIM.LR_SCHEDULER": "cosine"},
    **{"OPTIM.WARMUP_EPOCH": 10, "OPTIM.WARMUP_TYPE": "linear", "OPTIM.WARMUP_MIN_LR": 0.0, "OPTIM.COSINE_AFTER_WARMUP": True},
    **{"TRAINER.VPT.MAPPING": "head", "TRAINER.VPT.HEAD_INIT": "published"},
}
# Bahng et al., 2022: hjbahng/visual_prompting, main_clip.py
_VP = {
    **{"INPUT.SIZE": (224, 224), "INPUT.MARGIN": 0, "INPUT.INTERPOLATION": "bicubic", "MODEL.BACKBONE.NORM": "weights"},
    **{"INPUT.TRANSFORMS": ("short_side", "normalize"), BATCH: 256, DROP: False},
    **{"OPTIM.NAME": "sgd", "OPTIM.LR": 40.0, "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 1000},
    **{"OPTIM.LR_SCHEDULER": "cosine", "OPTIM.PER_ITERATION": True, "OPTIM.WARMUP_EPOCH": 1000, "OPTIM.WARMUP_TYPE": "ramp"},
    **{"TRAINER.VP.MAPPING": "text", "TRAINER.VP.TEMPLATES": "vp"},
    **{"TRAINER.VP.WIDTH": 30, "TRAINER.VP.INIT": "normal"},
}
# Chen et al., CVPR 2023: OPTML-Group/ILM-VP, experiments/clip; Cai et al., NeurIPS 2024: tmlr-group/BayesianLM, train_vlm.py
_VR_ON_CLIP = {
    **{"INPUT.SIZE": (224, 224), "INPUT.MARGIN": 0, "INPUT.INTERPOLATION": "bicubic", "MODEL.BACKBONE.NORM": "weights"},
    **{"INPUT.TRANSFORMS": ("short_side", "normalize"), BATCH: 128, DROP: False},
    **{"OPTIM.NAME": "sgd", "OPTIM.LR": 40.0, "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 200},
    **{"OPTIM.LR_SCHEDULER": "cosine", "OPTIM.PER_ITERATION": True, "OPTIM.WARMUP_EPOCH": -1, "TRAINER.VR.TEMPLATES": "imagenet"},
}
# Zanella and Ben Ayed, CVPRW 2024: MaxZanella/CLIP-LoRA, run_utils.py, lora.py, main.py, loralib/layers.py, datasets/*.py
_CLIP_LORA = {
    **{"INPUT.SIZE": (224, 224), "INPUT.INTERPOLATION": "bicubic", "INPUT.RRCROP_SCALE": (0.08, 1.0)},
    **{"INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"), "MODEL.BACKBONE.NORM": "weights"},
    **{BATCH: 32, DROP: False, "OPTIM.NAME": "adamw", "OPTIM.LR": 2e-4, "OPTIM.WEIGHT_DECAY": 0.01, "OPTIM.ADAM_BETA2": 0.999},
    **{"OPTIM.MAX_EPOCH": 0, "OPTIM.BATCHES_PER_SHOT": 500, "OPTIM.PER_ITERATION": True, "OPTIM.WARMUP_EPOCH": -1},
    **{"OPTIM.LR_SCHEDULER": "cosine", "OPTIM.COSINE_MIN_LR": 1e-6},
    **{"TRAINER.CLIPLORA.RANK": 2, "TRAINER.CLIPLORA.ALPHA": 1.0, "TRAINER.CLIPLORA.TARGETS": "qkv"},
    **{"TRAINER.CLIPLORA.DROPOUT": 0.25, "TRAINER.CLIPLORA.TEMPLATE": "a photo of a {}."},
}
# Zhang et al., ECCV 2022: gaopengcuhk/Tip-Adapter, main.py, utils.py, configs/imagenet.yaml; AdamW's weight decay is torch's own
_CACHED = {
    **{"INPUT.SIZE": (224, 224), "INPUT.INTERPOLATION": "bicubic", "INPUT.RRCROP_SCALE": (0.5, 1.0), DROP: False},
    **{"INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"), "MODEL.BACKBONE.NORM": "weights"},
}
_TIP_ADAPTER = {
    **{**_CACHED, BATCH: 256, "OPTIM.NAME": "adamw", "OPTIM.LR": 0.001, "OPTIM.WEIGHT_DECAY": 0.01, "OPTIM.ADAM_EPS": 1e-4},
    **{"OPTIM.MAX_EPOCH": 20, "OPTIM.LR_SCHEDULER": "cosine", "OPTIM.PER_ITERATION": True, "OPTIM.WARMUP_EPOCH": -1},
    **{"TRAINER.TIPADAPTERF.ALPHA": 1.17, "TRAINER.TIPADAPTERF.BETA": 1.0, "TRAINER.TIPADAPTERF.KEY_VIEWS": 10},
    **{"TRAINER.TIPADAPTERF.SEARCH": "val", "TRAINER.TIPADAPTERF.SEARCH_BELOW": (3.0, 7.0)},
    **{"TRAINER.TIPADAPTERF.SEARCH_STEPS": (20, 200), "TRAINER.TIPADAPTERF.VIEWS": 0, "TRAINER.TIPADAPTERF.KEYS": 0},
}
# Yu et al., CVPR 2023: geekyutao/TaskRes, configs/trainers/TaskRes/adam_lr2e-3_B256_ep200.yaml, train_regular.sh
_TASKRES = {
    **{**_FAMILY, BATCH: 256, "OPTIM.NAME": "adam", "OPTIM.LR": 0.002, "OPTIM.MAX_EPOCH": 200},
    **{"TRAINER.TASKRES.ALPHA": 0.5, "TRAINER.TASKRES.VIEWS": 0},
}
# Huang et al., CVPR 2024: FereshteShakeri/FewShot-CLIP-Strong-Baseline, main.py, methods/linear_probe_p2.py; 300 iterations
_LPPP = {
    **{**_CACHED, "OPTIM.NAME": "sgd", "OPTIM.LR": 1.0, "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 30},
    **{"OPTIM.LR_SCHEDULER": "single_step", "OPTIM.STEPSIZE": (-1,), "TRAINER.LPPP.STEPS": 10},
}
# Chen et al.'s repository, experiments/cnn
_PROBE = {
    **{"INPUT.SIZE": (224, 224), "INPUT.TRANSFORMS": ("vr_squash", "normalize"), BATCH: 128, DROP: False},
    **{"OPTIM.NAME": "adam", "OPTIM.LR": 0.1, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 200},
    **{"OPTIM.LR_SCHEDULER": "multi_step", "OPTIM.STEPSIZE": (0.5, 0.72), "OPTIM.GAMMA": 0.1, "MODEL.BACKBONE.NORM": "config"},
}
_FULL_FT = {
    **{"INPUT.SIZE": (224, 224), **_IMAGES, BATCH: 128, DROP: False, "MODEL.BACKBONE.NORM": "config"},
    **{
        "OPTIM.NAME": "adam",
        "OPTIM.LR": 0.0001,
        "OPTIM.WEIGHT_DECAY": 5e-4,
        "OPTIM.MAX_EPOCH": 200,
        "OPTIM.LR_SCHEDULER": "cosine",
    },
}
# Cai et al., ICLR 2025: tmlr-group/AttrVR, experiments/fs_ar.py
_AR = {
    **{"INPUT.SIZE": (224, 224), "INPUT.PAD_SIDE": 192, "INPUT.MARGIN": 0, "INPUT.INTERPOLATION": "bicubic"},
    **{"INPUT.TRANSFORMS": ("short_side", "random_resized_crop", "random_flip", "vr_pad", "normalize"), BATCH: 64, DROP: False},
    **{"OPTIM.NAME": "sgd", "OPTIM.LR": 40.0, "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 200},
    **{"OPTIM.LR_SCHEDULER": "cosine", "OPTIM.PER_ITERATION": True, "TRAINER.VR.METHOD": "ar", "TRAINER.VR.MAPPING": "text"},
    "TRAINER.VR.TEMPLATES": "ar",
}
# Its experiments/fs_vp.py
_VP_16SHOT = {
    **{key: value for key, value in _AR.items() if not key.startswith(("TRAINER.", "INPUT.PAD_SIDE"))},
    "INPUT.TRANSFORMS": ("short_side", "random_resized_crop", "random_flip", "normalize"),
    **{"TRAINER.VP.MAPPING": "text", "TRAINER.VP.TEMPLATES": "ar", "TRAINER.VP.INIT": "zeros", "TRAINER.VP.WIDTH": 30},
}
# Its experiments/fs_attrvr.py
_ATTRVR = {
    **{
        "TRAINER.VR.MAPPING": "attrvr",
        "TRAINER.VR.TEMPLATES": "ensemble",
        "TRAINER.VR.SENTENCES": 20,
        "TRAINER.VR.NEAREST": 3,
        "TRAINER.VR.BALANCE": 0.5,
    },
}
# Cai et al., ICML 2025: caichengyi/DecoupledVP, experiments/fs_dvp_cls.py, cfg.py
_DVP = {
    **{"TRAINER.VR.METHOD": "dvp", "TRAINER.VR.VIEWS": 3, "TRAINER.VR.MAPPING": "dvp", "TRAINER.VR.MAPPING_PASS": "reuse"},
    **{"TRAINER.VR.SENTENCES": 20, "TRAINER.VR.NEAREST": 3, "TRAINER.VR.VIEWS_BY": "clusters"},
    "TRAINER.VR.TEMPLATES": "ensemble",
}
# Li et al. 2026
_RVP = {"TRAINER.VR.MAPPING": "rvp", "TRAINER.VR.TEMPLATES": "ensemble", "TRAINER.VR.MATRIX_LR": 0.001}
# Wu et al., TMLR 2024: UCSC-VLAA/EVP, main.py
_EVP = {
    **{"INPUT.SIZE": (224, 224), "INPUT.PAD_SIDE": 164, "INPUT.MARGIN": 0, "INPUT.INTERPOLATION": "bicubic"},
    **{"INPUT.TRANSFORMS": ("short_side", "random_crop", "random_flip", "vr_pad", "normalize"), "INPUT.CROP_PADDING": 0},
    **{BATCH: 256, DROP: False, "OPTIM.NAME": "normalized_sgd", "OPTIM.LR": 70.0, "OPTIM.MOMENTUM": 0.0, "OPTIM.WEIGHT_DECAY": 0.0},
    **{"OPTIM.MAX_EPOCH": 1000, "OPTIM.LR_SCHEDULER": "cosine", "OPTIM.PER_ITERATION": False},
    **{"TRAINER.VR.METHOD": "evp", "TRAINER.VR.MAPPING": "text"},
}
# Jin et al., ICLR 2025: jincan333/LoR-VP, run/run_lorvp.sh
_LORVP = {
    **{"INPUT.SIZE": (224, 224), "INPUT.TRANSFORMS": ("vr_squash", "normalize"), BATCH: 256, DROP: False},
    **{"OPTIM.NAME": "sgd", "OPTIM.LR": 0.02, "OPTIM.MOMENTUM": 0.9, "OPTIM.WEIGHT_DECAY": 1e-4, "OPTIM.MAX_EPOCH": 20},
    **{
        "OPTIM.LR_SCHEDULER": "cosine",
        "OPTIM.PER_ITERATION": True,
        "TRAINER.VR.METHOD": "lorvp",
        "TRAINER.VR.MAPPING": "head",
        "TRAINER.VR.RANK": 4,
    },
}
# Tsao et al., ICLR 2024: IBM/AutoVP, auto_vp/training_process.py
_AUTOVP = {
    **{"INPUT.SIZE": (224, 224), "INPUT.PAD_SIDE": 128, "INPUT.TRANSFORMS": ("vr_pad", "normalize"), BATCH: 128, DROP: False},
    **{"OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.MAX_EPOCH": 200, "TRAINER.VR.METHOD": "autovp", "TRAINER.VR.SCALE": 1.0},
}
_AUTOVP_ON_CLASSIFIERS = {
    **{**_AUTOVP, "OPTIM.NAME": "adam", "OPTIM.LR": 0.001, "OPTIM.LR_SCHEDULER": "multi_step", "OPTIM.STEPSIZE": (0.5, 0.72)},
    **{"TRAINER.VR.MAPPING": "linear", "TRAINER.VR.BORDER": "sigmoid"},
}
_AUTOVP_ON_CLIP = {
    **{**_AUTOVP, "OPTIM.NAME": "sgd", "OPTIM.LR": 40.0, "OPTIM.MOMENTUM": 0.9, "OPTIM.LR_SCHEDULER": "cosine"},
    **{"TRAINER.VR.TEMPLATES": "imagenet", "TRAINER.VR.BORDER": "free", "TRAINER.VR.SCALE_LR": 40.0},
}
# Cai et al., Table 13 and appendix E.1, as far as it says
_ON_VIT_L = {"INPUT.SIZE": (384, 384), "MODEL.BACKBONE.NAME": "vit_l16_384", "OPTIM.LR": 0.01, "OPTIM.MAX_EPOCH": 10}
_LORA = {**_ON_VIT_L, "TRAINER.LORA.MAPPING": "head", "TRAINER.LORA.RANK": 6}
_SMM_WITH_HEAD = {**_SMM_PAPER, **_IMAGES, **_MASK, **_ON_VIT, **_ON_VIT_L, "TRAINER.SMM.MAPPING": "head"}
RESNETS, CLIPS = ("rn18", "rn50"), ("clip_rn50", "clip_vit_b16", "clip_vit_b32")
PUBLISHED = {
    **{f"SMM/{name}": {**_SMM_PAPER, **_IMAGES, **_MASK, **_ON_RESNETS} for name in RESNETS},
    "SMM/vit_b32": {**_SMM_PAPER, **_IMAGES, **_MASK, **_ON_VIT},
    **{"SMM/vit_l16_384": _SMM_WITH_HEAD, "LoRA/vit_l16_384": _LORA},
    **{f"VR/{name}": {**_SMM_PAPER, **_IMAGES, **_VR, "INPUT.SIZE": (224, 224)} for name in RESNETS},
    "VR/vit_b32": {**_SMM_PAPER, **_IMAGES, **_VR, "INPUT.SIZE": (384, 384)},
    **{f"VR/{name}_pad": {**_SMM_PAPER, **_PAD, "INPUT.SIZE": (224, 224)} for name in RESNETS},
    "VR/vit_b32_pad": {**_SMM_PAPER, **_PAD, "INPUT.SIZE": (384, 384)},
    **{f"CoOp/{name}": _COOP for name in (*CLIPS, "clip_rn101")},
    **{f"CoCoOp/{name}": _COCOOP for name in (*CLIPS, "clip_rn101")},
    **{f"MaPLe/{name}": _MAPLE for name in ("clip_vit_b16", "clip_vit_b32")},
    **{f"VPT/{name}": _VPT_ON_CLIP for name in ("clip_vit_b16", "clip_vit_b32")},
    **{f"VP/{name}_16shot": _VP_16SHOT for name in (*CLIPS, "clip_rn101")},
    **{f"KgCoOp/{name}": _KGCOOP for name in (*CLIPS, "clip_rn101")},
    **{f"PromptSRC/{name}": _PROMPTSRC for name in ("clip_vit_b16", "clip_vit_b32")},
    **{"VPT/vit_b16": _VPT, "VPT/vit_b32": _VPT, "VP/clip_vit_b32": _VP},
    **{f"VR/{name}": _VR_ON_CLIP for name in (*CLIPS, "clip_rn101")},
    **{f"CLIPLoRA/{name}": _CLIP_LORA for name in ("clip_vit_b16", "clip_vit_b32")},
    **{f"TipAdapterF/{name}": _TIP_ADAPTER for name in (*CLIPS, "clip_rn101")},
    **{f"TaskRes/{name}": _TASKRES for name in (*CLIPS, "clip_rn101")},
    **{f"LPPP/{name}": _LPPP for name in (*CLIPS, "clip_rn101")},
    **{f"LinearProbe/{name}": _PROBE for name in RESNETS},
    **{f"FullFT/{name}": _FULL_FT for name in RESNETS},
    **{f"VR/{name}_ar": _AR for name in (*CLIPS, "clip_rn101")},
    **{f"VR/{name}_attrvr": {**_AR, **_ATTRVR} for name in (*CLIPS, "clip_rn101")},
    **{f"VR/{name}_rvp": {**_AR, **_RVP} for name in (*CLIPS, "clip_rn101")},
    **{f"VR/{name}_dvp": {**_AR, **_DVP} for name in (*CLIPS, "clip_rn101")},
    **{f"VR/{name}_evp": _EVP for name in CLIPS},
    **{f"VR/{name}_lorvp": _LORVP for name in (*RESNETS, "vit_b32")},
    **{f"VR/{name}_autovp": _AUTOVP_ON_CLASSIFIERS for name in RESNETS},
    **{f"VR/{name}_autovp": _AUTOVP_ON_CLIP for name in ("clip_vit_b16", "clip_vit_b32")},
}
# What is not as in the source: (recipe, key) -> (our value, what the recipe's head says of it)
_SAYS_384 = "on one model"
DIFFERS = {
    **{(f"VR/{name}", "INPUT.MARGIN"): (4, "resized to S + 4") for name in (*CLIPS, "clip_rn101")},
    **{(f"VR/{name}", "INPUT.TRANSFORMS"): (WATERMARK, "without augmentation") for name in (*CLIPS, "clip_rn101")},
    **{(f"VPT/{name}", BATCH): (64, "batches of 64" if name == "vit_b16" else "vit_b16.yaml") for name in ("vit_b16", "vit_b32")},
    ("VPT/vit_b32", "MODEL.BACKBONE.NAME"): ("vit_b32", _SAYS_384),
    ("VPT/vit_b32", "INPUT.SIZE"): ((384, 384), _SAYS_384),
    ("VPT/vit_b32", "INPUT.MARGIN"): (54, "Images at 384 are resized to 438"),
    **{(f"LinearProbe/{name}", "OPTIM.MAX_EPOCH"): (100, "100 epochs") for name in RESNETS},
    **{(f"LinearProbe/{name}", "INPUT.TRANSFORMS"): (WATERMARK, "cropped and mirrored at random") for name in RESNETS},
    **{(f"FullFT/{name}", "OPTIM.MAX_EPOCH"): (100, "100 epochs") for name in RESNETS},
    ("VR/vit_b32_lorvp", "INPUT.SIZE"): ((384, 384), "on ViT-B/32 at 384"),
    **{
        (f"VR/{name}_autovp", "TRAINER.VR.SCALE_LR"): (0.001, "has TRAINER.VR.SCALE_LR")
        for name in ("clip_vit_b16", "clip_vit_b32")
    },
}


def head_of(name):
    lines = [line for line in (TRAINERS / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    return " ".join(line.lstrip("# ") for line in lines)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_its_sources_or_its_head_says_where_it_is_not(name):
    cfg = recipe(name)
    for key, published in PUBLISHED[name].items():
        ours = lookup(cfg, key)
        ours = tuple(ours) if isinstance(ours, list) else ours
        expected, words = DIFFERS.get((name, key), (published, ""))
        assert ours == expected, f"{key} is {ours}; {'the head says' if words else 'its source has'} {expected}"
        assert (name, key) not in DIFFERS or ours != published, f"{key} no longer differs"
        assert words in head_of(name), key


def test_every_recipe_is_compared_or_is_ours():
    """Those of the small models, those for short budgets, and those that nobody published."""
    ours = {
        *{
            "SMM/lite0",
            "SMM/lite0_head",
            *(f"SMM/{name}{f_out}" for name in (*CLIPS, "clip_rn101") for f_out in ("", "_attrvr", "_rvp")),
        },
        *(f"{trainer}/{name}" for trainer in ("LinearProbe", "FullFT") for name in ("vit_b32", "clip_vit_b16", "lite0")),
        *(f"LinearProbe/{name}" for name in (*CLIPS, "clip_rn101")),
        *{"VR/lite0", "VR/lite0_pad", "VR/clip_vit_b32_acavp", "VR/clip_vit_b16_dvp_lite"},
        *(f"VR/lite0_{method}" for method in ("ar", "evp", "lorvp", "autovp", "acavp")),
        *{"LoRA/vit_b16", "LoRA/vit_b32"},
    }
    for path in TRAINERS.glob("*/*.yaml"):
        name = f"{path.parent.name}/{path.stem}"
        if path.stem.startswith("tiny_") or path.stem.endswith("_best") or path.parent.name == "ZeroshotCLIP":
            continue
        assert (name in PUBLISHED) != (name in ours), name


@pytest.mark.parametrize(("name", "side"), [("vit_b32", 48), ("vit_b32_best", 48), ("clip_vit_b16", 28), ("clip_vit_b32", 28)])
def test_six_layers_and_three_pools_in_front_of_a_transformer(name, side):
    """102,339 parameters; patches of 8, so a mask of 48 x 48 at 384 (Cai et al., section 5 and appendix A.2)."""
    cfg = recipe(f"SMM/{name}")
    f_in = TRAINER_REGISTRY.get("SMM").build_input(cfg, cfg.INPUT.SIZE[0])
    assert sum(p.numel() for p in f_in.generator.parameters()) == 102_339
    with torch.no_grad():
        x = torch.randn(1, 3, *cfg.INPUT.SIZE)
        assert f_in.generator(x).shape == (1, 3, side, side) and f_in(x).shape == x.shape


def rates(name, batches=1):
    """Learning rates of a recipe's run, one per epoch, or with PER_ITERATION one per batch."""
    optim_cfg = recipe(name).OPTIM
    if optim_cfg.PER_ITERATION:
        optim_cfg = in_iterations(optim_cfg, batches)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=optim_cfg.LR)
    scheduler, found = build_lr_scheduler(optimizer, optim_cfg), []
    for _ in range(optim_cfg.MAX_EPOCH):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_rates_of_vp():
    """`cosine_lr` of its utils.py: base * (step + 1) / 1000, then half a cosine over the other steps."""
    steps = 3 * 1000
    expected = [40 * (step + 1) / 1000 for step in range(1000)]
    expected += [20 * (1 + math.cos(math.pi * (step - 1000) / (steps - 1000))) for step in range(1000, steps)]
    assert rates("VP/clip_vit_b32", batches=3) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["vit_b16", "vit_b32"])
def test_rates_of_vpt(name):
    """`WarmupCosineSchedule` of its lr_scheduler.py, stepped once per epoch."""
    expected = [1.25 * epoch / 10 for epoch in range(10)]
    expected += [1.25 * 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 90)) for epoch in range(10, 100)]
    assert rates(f"VPT/{name}") == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_lowest_rate_begins_with_the_145th_epoch():
    found = rates("SMM/rn18")
    assert [found.index(rate) for rate in sorted(set(found), reverse=True)] == [0, 100, 144]
    for path in TRAINERS.glob("*/*.yaml"):
        name = f"{path.parent.name}/{path.stem}"
        says = "145th epoch" in head_of(name)
        cfg = recipe(name).OPTIM
        steps = cfg.LR_SCHEDULER == "multi_step" and cfg.MAX_EPOCH == 200
        assert says == (name in PUBLISHED and path.parent.name in ("SMM", "VR") and steps and "clip" not in name), name
        assert "last epoch" not in head_of(name), "the paper does not say of which epoch its accuracy is"


def test_start_of_vpts_head():
    """`MLP` of its mlp.py: Kaiming normal, fan_out, of 20 classes; bias -log 99."""
    backbone, names = build_backbone("tiny_vit", verbose=False), [f"class {number}" for number in range(20)]
    torch.manual_seed(0)
    _, f_out = TRAINER_REGISTRY.get("VPT").build_output(recipe("VPT/vit_b16"), backbone, names)
    assert f_out.linear.weight.std().item() == pytest.approx(math.sqrt(2 / 20), rel=0.05)
    assert torch.allclose(f_out.linear.bias, torch.full((20,), -4.595), atol=1e-3)
    _, f_out = TRAINER_REGISTRY.get("VPT").build_output(recipe("VPT/tiny_vit"), backbone, names)
    assert f_out.linear.weight.abs().max() < 1 / math.sqrt(backbone.out_features) + 1e-6, "torch's own"


@pytest.mark.parametrize("name", ["rn18", "rn50", "vit_b32"])
def test_pads_head_notes_the_batch_of_its_own_paper(name):
    assert re.search(r"those of Chen et al\. are 128", head_of(f"VR/{name}_pad"))
