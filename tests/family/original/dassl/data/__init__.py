import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler
from torchvision import transforms as T

from dassl.utils import read_image

from .datasets import DATASET_REGISTRY


class DatasetWrapper(Dataset):
    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg, self.data_source, self.transform = cfg, data_source, transform
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.to_tensor = _plain(cfg)

    def __len__(self):
        return len(self.data_source)

    def __getitem__(self, idx):
        datum = self.data_source[idx]
        image = self._transform_image(self.transform, read_image(datum.impath))
        return {"img": image, "label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx}

    def _transform_image(self, tfm, img0):
        images = [tfm(img0) for _ in range(self.k_tfm)]
        return images if len(images) > 1 else images[0]


def _plain(cfg):
    return T.Compose([T.Resize(list(cfg.INPUT.SIZE)), T.ToTensor()])


class DataManager:
    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        self.dataset = DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
        self.num_classes, self.lab2cname = self.dataset.num_classes, self.dataset.lab2cname
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        wrapper = dataset_wrapper or DatasetWrapper
        train, test = self.dataset.train_x, self.dataset.test
        size = cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        self.train_loader_x = DataLoader(
            wrapper(cfg, train, transform=custom_tfm_train or _plain(cfg), is_train=True),
            batch_size=size,
            sampler=RandomSampler(train),
            drop_last=len(train) >= size,
            pin_memory=torch.cuda.is_available(),
        )
        self.train_loader_u = self.val_loader = None
        test_set = wrapper(cfg, test, transform=custom_tfm_test or _plain(cfg))
        self.test_loader = DataLoader(test_set, batch_size=cfg.DATALOADER.TEST.BATCH_SIZE, sampler=SequentialSampler(test))
