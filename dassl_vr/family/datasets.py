"""The family's base class of data sets: ours, with the methods that only its data sets call."""

import random
from collections.abc import Sequence
from pathlib import Path

from ..data import datasets
from ..data.archive import extract
from ..data.datasets.base_dataset import draw_shots, group_by
from ..data.fetch import Source, fetch
from ..utils.errors import ConfigError
from ..utils.registry import unknown_name_message


class DatasetBase(datasets.DatasetBase):
    """Splits of a data set under the family's names, and its helpers."""

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Raises `ConfigError` if either list is empty or names a domain that the data set does not have."""
        for key, names in (("SOURCE_DOMAINS", source_domains), ("TARGET_DOMAINS", target_domains)):
            if not names:
                raise ConfigError(f"DATASET.{key} is empty; name one or more of {', '.join(self.domains)}")
            self.is_input_domain_valid(names)

    def is_input_domain_valid(self, input_domains: Sequence[str]) -> None:
        """Raises `ConfigError` for a domain that the data set does not have."""
        for domain in input_domains:
            if domain not in self.domains:
                raise ConfigError(unknown_name_message("domain", str(domain), self.domains))

    def download_data(self, url: str, dst: str | Path, from_gdrive: bool = True) -> None:
        """Fetch an archive to `dst` and unpack it beside it.

        Args:
            url: its address; a Drive id or the address of a Drive file where `from_gdrive`.
        """
        dst = Path(dst)
        source = Source(dst.name, drive_id=url) if from_gdrive else Source(dst.name, urls=(url,))
        extract(fetch(source, dst.parent), dst.parent)

    def generate_fewshot_dataset(
        self, *data_sources: list, num_shots: int = -1, repeat: bool = False, rng: random.Random = random
    ) -> list | tuple:
        """Draw `num_shots` images per class, source after source, class after class in the order of first appearance.

        Args:
            data_sources: lists of `Datum`.
            num_shots: below 1 = everything.
            repeat: draw with replacement where a class has too few images (else it is taken whole).
            rng: where the draws come from; python's global generator, as in the family, unless given.

        Returns:
            A list for one source, a list of lists for several.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        output = [draw_shots(data_source, num_shots, rng, repeat) for data_source in data_sources]
        return output[0] if len(output) == 1 else output

    @staticmethod
    def split_dataset_by_label(data_source: list) -> dict[int, list]:
        """{label: [items]}, labels in the order of first appearance."""
        return group_by(data_source, "label")

    @staticmethod
    def split_dataset_by_domain(data_source: list) -> dict[int, list]:
        """{domain: [items]}, domains in the order of first appearance."""
        return group_by(data_source, "domain")
