"""Description banks: sentences about the classes of a data set, for label mappings that read them through a text tower.

A bank is a JSON file {class: [sentences]}. The published ones, two per data set, are by AttrVR's authors (MIT licence) and are
fetched; small ones for digits and Fashion-MNIST are in `banks/`.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from ..home import expand_home
from ..utils import kinds
from ..utils.errors import DataError
from ..utils.files import read_checked_json
from .datasets import DATASET_REGISTRY
from .datasets.names import look_of
from .download import Part, Source, prepare

KINDS = "des", "dist"  # descriptive sentences, distinctive sentences
LEAST = 20  # characters of a sentence that is drawn, as published
SHIPPED = {"digits": "digits", "digits_stripes": "digits", "FashionMNIST": "fashion_mnist"}
PUBLISHED_AT = "https://raw.githubusercontent.com/tmlr-group/AttrVR/ef63be6a2d1b78292b936956818002bc584d09a5/attributes/gpt3"
# Data set -> (name there, MD5 of the descriptive sentences, MD5 of the distinctive ones)
PUBLISHED = {
    "Caltech101": ("caltech101", "26bd57e36c6ef0aec307b9ea62d31c82", "e1de309a401394e858a49806ce92ffcf"),
    "DescribableTextures": ("dtd", "cdc92ccd67b9cfd6f57aa35fa3a7e9ed", "c6207065bc6f1cc2cd1b75f357a738ba"),
    "EuroSAT": ("eurosat", "b56d6e32d2839f5799adc416c8412a6f", "8909e4ade2ba83f4b3733ccea15d7adb"),
    "FGVCAircraft": ("fgvc", "c4dd22e6a9ed01abceab8ebb18537e97", "2c174426736d8d089e370ff2603017d6"),
    "Food101": ("food101", "f6934a13760e45b28334542754574eda", "9dc157929ec65d8b95ebd80b37edcf19"),
    "ImageNet": ("I", "ab0987cd815273ee712bfc479d6316fd", "76334b86eee7d6fd69cf133f7e228481"),
    "OxfordFlowers": ("oxford_flowers", "56db8e3108b823d54b08be25270381b2", "9b38bed111a77022e9cfe78b6562f246"),
    "OxfordPets": ("oxford_pets", "e2f89c301a154c41657d1e2065689c6b", "d0c5819b016c0d73fca400678bd62780"),
    "RESISC45": ("resisc45", "372dd35077fd1dcb02ea3c7ce599dd83", "805fdf6db61e59c90e5fbfb0d82e3f77"),
    "StanfordCars": ("stanford_cars", "e3bbe34e56d462eaa822392a254481ae", "f9c3ad56da91f153263fac99dbb38942"),
    "SUN397": ("sun397", "55676f8e8f19522cea9fb6a16fa16207", "9f8044757b9d05d0971aa02e0ba82f9f"),
    "UCF101": ("ucf101", "90c2e5d9cdcb71956c4267cd26684e78", "c41a7a9b793d8fcb68b0202665e1cc52"),
}

_BANK = kinds.dict_of(kinds.list_of(kinds.TEXT))


def published_parts(name: str) -> tuple[Part, ...]:
    """The published banks of the data set `name`, files in its directory; none where there are none."""
    if name not in PUBLISHED:
        return ()
    there, *md5 = PUBLISHED[name]
    files = [f"{there}_{kind}.json" for kind in KINDS]
    return tuple(
        Part(file, Source(file, urls=(f"{PUBLISHED_AT}/{file}",), md5=sum_)) for file, sum_ in zip(files, md5, strict=True)
    )


def fetch_descriptions(name: str, directory: str | Path, download: bool = True) -> list[Path]:
    """The files of the published banks of a data set in its directory; fetched where they are absent, if `download`.

    Raises:
        DataError: there are none, or one is absent and cannot or may not be fetched.
    """
    parts = published_parts(name)
    if not parts:
        known = ", ".join(sorted({*PUBLISHED, *SHIPPED}))
        raise DataError(f"{name}: there are no descriptions for it (there are for {known}); name files in DESCRIPTIONS")
    prepare(name, parts, directory, download)
    return [Path(directory, part.provides) for part in parts]


def descriptions_of(cfg: CfgNode, files: Sequence[str], classnames: Sequence[str], number: int) -> list[list[list[str]]]:
    """[bank][class][sentence]: `number` sentences for each class from each bank, drawn with SEED; where there are fewer, all of
    them and some again.

    Args:
        cfg: with DATASET and SEED.
        files: of the user; none = the shipped ones, or the published ones in the data set's directory.

    Raises:
        DataError: a file is missing or damaged, or lacks classes, or has no sentences of 20 characters and more for them.
    """
    name = DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)
    if files:
        paths = [expand_home(file) for file in files]
    elif name in SHIPPED:
        paths = [Path(__file__).parent / "banks" / f"{SHIPPED[name]}_{kind}.json" for kind in KINDS]
    else:
        directory = expand_home(Path(cfg.DATASET.ROOT, DATASET_REGISTRY.get(name).dataset_dir)).absolute()
        paths = fetch_descriptions(name, directory, cfg.DATASET.DOWNLOAD)
    chance = random.Random(cfg.SEED)
    return [[_draw(sentences, number, chance) for sentences in read_bank(path, classnames)] for path in paths]


def read_bank(path: str | Path, classnames: Sequence[str]) -> list[list[str]]:
    """The sentences of a bank about each of these classes, those with `LEAST` characters and more.

    Names are compared without regard to case, spaces and underscores.

    Raises:
        DataError: see `descriptions_of`.
    """
    content = read_checked_json(path, "expected {class: [sentences]} in JSON", _BANK)
    found = {look_of(name): [text for text in sentences if len(text) >= LEAST] for name, sentences in content.items()}
    absent = [name for name in classnames if not found.get(look_of(name))]
    if absent:
        names = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise DataError(
            f"{path}: no sentences of {LEAST} characters and more for {len(absent)} of {len(classnames)} classes, {names}; add some"
        )
    return [found[look_of(name)] for name in classnames]


def _draw(sentences, number, chance):
    if len(sentences) > number:
        return chance.sample(sentences, number)
    return sentences + chance.choices(sentences, k=number - len(sentences))
