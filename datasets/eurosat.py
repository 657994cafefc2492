"""EuroSAT: land use in satellite pictures, 10 classes (Helber et al. 2019), with the split of CoOp."""

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.data.download import Part, Source, family_mirror

# CoOp's names for prompts, by folder
CLASSNAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


@DATASET_REGISTRY.register()
class EuroSAT(ImageSplitDataset):
    """`<root>/eurosat/2750/<Class>/*.jpg` and `<root>/eurosat/split_zhou_EuroSAT.json`."""

    dataset_dir = "eurosat"
    facts = {"TEMPLATE": "a centered satellite photo of {}."}
    image_dir = "2750"
    folder_names = CLASSNAMES
    split_file = "split_zhou_EuroSAT.json"
    official_counts = (13500, 5400, 8100)
    parts = (
        Part(
            "2750",
            Source(
                "EuroSAT.zip",
                urls=(
                    "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                ),
                md5="c8fa014336c82ac7804f0398fcb19387",
            ),
            fallbacks=(
                Source("EuroSAT_RGB.zip", urls=("https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip",), inside="EuroSAT_RGB"),
                family_mirror("eurosat.zip"),
            ),
        ),
        Part(
            "split_zhou_EuroSAT.json",
            Source("split_zhou_EuroSAT.json", drive_id="1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
            required=False,
        ),
    )
