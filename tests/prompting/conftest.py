"""Small CLIPs of open_clip's classes, one for each way that its models are built."""

import open_clip
import pytest
import torch

from dassl_vr.backbones import build_backbone
from dassl_vr.backbones.adapters.open_clip_models import OpenClipAdapter
from dassl_vr.backbones.tiny import tiny_clip_tokenizer

VISION = {"image_size": 32, "patch_size": 16, "layers": 3, "width": 48, "head_width": 16}
TEXT = {"context_length": 24, "vocab_size": 1622, "layers": 3, "width": 32, "heads": 2}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
FORMS = {  # (class, vision settings, text settings); each dimension is another one
    "vit": (open_clip.CLIP, VISION, TEXT),
    "resnet": (open_clip.CLIP, RESNET, TEXT),
    "custom": (open_clip.CustomTextCLIP, VISION, TEXT),
    "eos": (open_clip.CustomTextCLIP, VISION, {**TEXT, "pool_type": "eos", "eos_id": 1621}),
    "eos_clip": (open_clip.CLIP, VISION, {**TEXT, "pool_type": "eos", "eos_id": 1621}),
    "linear_projection": (open_clip.CustomTextCLIP, VISION, {**TEXT, "proj_bias": True}),
    "no_pre_norm": (open_clip.CLIP, {**VISION, "no_ln_pre": True}, TEXT),
}


class _Adapter(OpenClipAdapter):
    def __init__(self, form):
        self.form, self.vision, self.text = FORMS[form]

    def spec(self, model_name):
        return self.spec_of(model_name, {"vision_cfg": self.vision, "text_cfg": self.text}, {})

    def create(self, spec, architecture):
        return self.form(embed_dim=40, vision_cfg=self.vision, text_cfg=self.text, quick_gelu=True)

    def tokenizer(self, spec):
        words = tiny_clip_tokenizer()
        return lambda sentences: words(sentences, context_length=self.text["context_length"])


def small_clip(form, precision="fp32"):
    adapter = _Adapter(form)
    spec = adapter.spec(form)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return adapter.wrap(adapter.build(spec, False, "", False), spec, precision=precision)


@pytest.fixture(params=FORMS)
def any_clip(request):
    return small_clip(request.param)


@pytest.fixture
def make_clip():
    """make_clip(one of FORMS, precision)"""
    return small_clip


@pytest.fixture(scope="session")
def tiny_clip():
    return build_backbone("tiny_clip", verbose=False)
