"""Bundles on the Hugging Face hub: `hub:USER/NAME`, or `hub:USER/NAME@REVISION`.

Token, cache, address and offline mode are those of `huggingface_hub` (HF_TOKEN, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE).
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..names import BUNDLE
from ..utils.errors import DISK_ERRORS, ConfigError, DataError, UserError
from ..utils.text import excerpt
from .bundle import write_bundle
from .description import DESCRIPTION_FILE, FILES, read_description, read_sealed
from .model import PromptedModel
from .model_card import CARD_FILE, model_card

PREFIX = "hub:"
_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?"
_PLACE = re.compile(rf"hub:(?P<user>{_PART})/(?P<name>{_PART})(?:@(?P<revision>(?!.*\.\.)\w[\w./-]{{0,249}}))?", re.ASCII)


@dataclass(frozen=True)
class HubPlace:
    """A repository of models on the hub.

    Attributes:
        repository: USER/NAME.
        revision: a branch, a tag or a commit; None = the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self):
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_place(text: str | os.PathLike) -> HubPlace | None:
    """The place that `hub:USER/NAME[@REVISION]` names; None for a text without `hub:`, which is a path.

    Raises:
        ConfigError: it begins with `hub:` and is not of that form.
    """
    text = os.fspath(text)
    if not text.startswith(PREFIX):
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{excerpt(text)}: no place on the hub; expected hub:USER/NAME or hub:USER/NAME@REVISION")
    return HubPlace(f"{match['user']}/{match['name']}", match["revision"])


def fetch_bundle(place: HubPlace) -> Path:
    """The directory in the cache of the hub with the bundle at `place`: its two files, of one commit, and no others.

    Raises:
        DataError: it cannot be fetched, is not in the cache of a machine that is offline, or is not a bundle.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _explained(place, api.endpoint):
        description = Path(api.hf_hub_download(place.repository, DESCRIPTION_FILE, revision=place.revision))
    directory = description.parent
    form = read_sealed(directory)["format"]
    if form != BUNDLE:
        raise DataError(f"{place}: holds the format '{form}'; from the hub only bundles are loaded")
    with _explained(place, api.endpoint):
        # The cache names the directory by the commit: both files are of the same one, though the branch may move on meanwhile
        api.hf_hub_download(place.repository, FILES[BUNDLE], revision=directory.name)
    return directory


def check_can_upload(place: HubPlace) -> None:
    """Raises `ConfigError` where nothing can be uploaded to `place`: there is no token, or HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"{place}: cannot be written while HF_HUB_OFFLINE is set; unset it")
    if not get_token():
        raise ConfigError(f"{place}: no token to write with; set HF_TOKEN or run hf auth login")


def upload_bundle(model: PromptedModel, place: HubPlace, private: bool = False, licence: str = "") -> str:
    """Write the bundle of `model`, with a card, to the hub in one commit; the repository is made if there is none.

    Args:
        private: make the repository so that only its owner sees it; one that exists stays as it is.
        licence: what the card says, as a word of the hub such as "mit"; "" = that none is stated.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: `check_can_upload`.
        DataError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard

    check_can_upload(place)
    api = HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary, BUNDLE)
        write_bundle(model, directory)
        card = model_card(read_description(directory), place, licence)
        (directory / CARD_FILE).write_text(card, encoding="utf-8")
        files = [CommitOperationAdd(path.name, path) for path in sorted(directory.iterdir())]
        with _explained(place, api.endpoint):
            ModelCard(card).validate()  # the hub would refuse it after the repository was made
            api.create_repo(place.repository, private=private or None, exist_ok=True)
            commit = api.create_commit(
                place.repository, files, commit_message="Upload a bundle of dassl_vr", revision=place.revision
            )
    return commit.commit_url


@contextlib.contextmanager
def _explained(place: HubPlace, endpoint: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into one line about `place`."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # one line says what is wrong, not one for each of its attempts
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it has exceptions of its own, and passes on those of the HTTP client that it happens to use
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise DataError(f"{place}: {_reason(error, endpoint)}") from error
    finally:
        logging.set_verbosity(before)


def _reason(error, endpoint):
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return "its owner grants access one by one; ask for it on its page, and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, and for a private one set HF_TOKEN or run hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision; give a branch, a tag or a commit that is there"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return f"not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; fetch it once without that"
        return f"{endpoint} cannot be reached, and there is no copy in {constants.HF_HUB_CACHE}; check the network"
    if isinstance(error, errors.EntryNotFoundError):
        return f"not a bundle, {DESCRIPTION_FILE} or {FILES[BUNDLE]} is missing; expected what export.py writes to the hub"
    if isinstance(error, ValueError):
        return f"{endpoint} refuses the card ({excerpt(error)}); check --license"
    if status in (401, 403):
        return f"{endpoint} refuses ({status}); set HF_TOKEN to a token that may write there"
    return f"{endpoint} failed ({type(error).__name__}: {excerpt(error)}); try again later"
