import torch


def build_optimizer(model, optim_cfg):
    return torch.optim.SGD(model.parameters(), lr=optim_cfg.LR)
