"""Every key of the configuration with its default. Trainers and data sets add their own with `extend_cfg(cfg)`."""

from collections.abc import Callable

from yacs.config import CfgNode as CN

from ..utils.errors import ConfigError
from . import family

_C = CN()

# Directory for the files of the run. Unless one is named, train.py takes that in which the scripts put such a run
_C.OUTPUT_DIR = "./output"
# Directory of a run to continue ("" = start a new run)
_C.RESUME = ""
# Seed of the run. Negative = draw one, print it and record it
_C.SEED = -1
# Where to compute: auto (the accelerator that torch finds, else the CPU), cpu, cuda (AMD's GPUs too), mps, xpu, or another kind
# that torch knows; cuda:1 is the second of several
_C.DEVICE = "auto"
# The family's key: False = on the CPU
_C.USE_CUDA = True
# Print at the start the whole configuration, the environment and the data summary, in place of what differs from the defaults
_C.VERBOSE = False

# ---------------------------------------------------------------------------------------------------------- INPUT
_C.INPUT = CN()
# Height and width; (0, 0) = the side that the backbone's weights were trained at
_C.INPUT.SIZE = (0, 0)
# How images are resized
_C.INPUT.INTERPOLATION = "bilinear"
# Names of transforms, in order; the list is in dassl_vr/data/transforms.py
_C.INPUT.TRANSFORMS = ()
# True = only resize, convert to tensor and normalize
_C.INPUT.NO_TRANSFORM = False
# Mean and standard deviation of the pixels, used when MODEL.BACKBONE.NORM is "config"
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
# vr_squash: training images are resized to SIZE + MARGIN; short_side: the short side of all images is. -1 = 32 pixels, scaled
# with SIZE / 224 below 224
_C.INPUT.MARGIN = -1
# vr_pad: side of the small image at a side of 224, scaled with SIZE / 224 below; 0 = DATASET.NATIVE_SIZE
_C.INPUT.PAD_SIDE = 0
# random_crop: padding before the crop
_C.INPUT.CROP_PADDING = 4
# random_resized_crop: share of the image's area
_C.INPUT.RRCROP_SCALE = (0.08, 1.0)
# cutout: number of holes and their side in pixels
_C.INPUT.CUTOUT_N = 1
_C.INPUT.CUTOUT_LEN = 16
# gaussian_noise: mean and standard deviation
_C.INPUT.GN_MEAN = 0.0
_C.INPUT.GN_STD = 0.15
# randaugment: number of operations and their magnitude
_C.INPUT.RANDAUGMENT_N = 2
_C.INPUT.RANDAUGMENT_M = 10
# colorjitter: brightness, contrast, saturation, hue
_C.INPUT.COLORJITTER_B = 0.4
_C.INPUT.COLORJITTER_C = 0.4
_C.INPUT.COLORJITTER_S = 0.4
_C.INPUT.COLORJITTER_H = 0.1
# randomgrayscale: probability
_C.INPUT.RGS_P = 0.2
# gaussian_blur: probability and (odd) kernel size
_C.INPUT.GB_P = 0.5
_C.INPUT.GB_K = 21

# -------------------------------------------------------------------------------------------------------- DATASET
_C.DATASET = CN()
# Directory that holds the data sets' directories
_C.DATASET.ROOT = ""
# Name of a registered data set, in any case
_C.DATASET.NAME = ""
# Fetch a data set that is absent from ROOT (the scripts turn this on)
_C.DATASET.DOWNLOAD = False
# Domains to train on and to test on, for data sets that have several
_C.DATASET.SOURCE_DOMAINS = ()
_C.DATASET.TARGET_DOMAINS = ()
# Training images per class (validation takes min(NUM_SHOTS, 4)); below 1 = all
_C.DATASET.NUM_SHOTS = -1
# A published draw of these images in place of one of our own, in the form of 2SFS: a path relative to the data set's directory,
# such as split_fewshot/shot_{shots}-seed_{seed}_{split}.jsonl; {split} stands for train and val. "" = they are drawn
_C.DATASET.FEW_SHOT_FILE = ""
# Classes to take: all, base (the first half), new (the second half, relabelled from 0)
_C.DATASET.SUBSAMPLE_CLASSES = "all"
# Share of the training images set aside for validation if a data set has no validation split
_C.DATASET.VAL_PERCENT = 0.1
# Class names, by label, of the run that a folder of other images is tested with; all of its images are then test images.
# Set by --eval-only with another --root; () = no such test
_C.DATASET.TEST_CLASSES = ()
# What an unreadable image does: error, skip (it is left out and counted in results.json)
_C.DATASET.ON_BAD_IMAGE = "error"
# Grey images with 16 or 32 bits per pixel: number of bits in use, so that 2 ** GREY_BITS - 1 is white (12 for many medical
# images). 0 = 16, with a warning about an image that would be nearly black
_C.DATASET.GREY_BITS = 0
# Facts of a data set. Each data-set class states its own (`facts`), which these keys override

# Whether a mirrored image keeps its class (not so for digits)
_C.DATASET.FLIP = True
# Pad's side of the small image in front of a 224-pixel model: 32 for CIFAR, SVHN, GTSRB; 128 for photographs
_C.DATASET.NATIVE_SIZE = 128
# Sentence for a class in front of a text tower, {} = the name of the class
_C.DATASET.TEMPLATE = "a photo of a {}."
# Upper bound on the training batch, whatever a trainer's recipe says (64 for DTD and OxfordPets); 0 = none
_C.DATASET.BATCH_LIMIT = 0

# ----------------------------------------------------------------------------------------------------- DATALOADER
_C.DATALOADER = CN()
# Worker processes. -1 = none for images in memory, else one per core, at most 4
_C.DATALOADER.NUM_WORKERS = -1
# On a GPU: put batches in page-locked memory and copy them while the CPU continues
_C.DATALOADER.PIN_MEMORY = True
# Decode and resize images only once, if the first transforms are not random: auto (in memory while they fit in
# STORE_MEMORY, else in a file if that takes less than half of the free disk space), memory, disk, device (copied once to where the
# run computes, so that the CPU has no part in a batch), off
_C.DATALOADER.STORE = "auto"
# Directory for these files ("" = beside the data, or in ~/.cache if that is not writable)
_C.DATALOADER.STORE_DIR = ""
# GB of memory for all stores of a run under "auto", over all of its processes on a machine
_C.DATALOADER.STORE_MEMORY = 2.0
# Number of versions of each image, each transformed anew
_C.DATALOADER.K_TRANSFORMS = 1
# Also return the image without augmentation, as img0
_C.DATALOADER.RETURN_IMG0 = False
# False = the training BATCH_SIZE counts the images of all processes of a torchrun together, so that their number changes
# nothing; True = it counts those of each process
_C.DATALOADER.BATCH_PER_PROCESS = False

_C.DATALOADER.TRAIN_X = CN()
# RandomSampler, SequentialSampler, RandomDomainSampler, SeqDomainSampler, RandomClassSampler
_C.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
# Images per batch; DATASET.BATCH_LIMIT bounds it
_C.DATALOADER.TRAIN_X.BATCH_SIZE = 32
# Domains per batch (RandomDomainSampler), images per class or domain in a batch (RandomClassSampler)
_C.DATALOADER.TRAIN_X.N_DOMAIN = 0
_C.DATALOADER.TRAIN_X.N_INS = 16
# Drop the last, partial batch, unless it is the only one
_C.DATALOADER.TRAIN_X.DROP_LAST = True
# What becomes of a last batch of one image, which has no statistics for batch norm and too large a share of an epoch's steps:
# merge (it joins the batch before), drop (its image is left out of this epoch), keep (a step of its own)
_C.DATALOADER.TRAIN_X.LAST_OF_ONE = "merge"

_C.DATALOADER.TRAIN_U = CN()
# Load unlabelled images with the settings of TRAIN_X. False = with those below
_C.DATALOADER.TRAIN_U.SAME_AS_X = True
_C.DATALOADER.TRAIN_U.SAMPLER = "RandomSampler"
_C.DATALOADER.TRAIN_U.BATCH_SIZE = 32
_C.DATALOADER.TRAIN_U.N_DOMAIN = 0
_C.DATALOADER.TRAIN_U.N_INS = 16

_C.DATALOADER.TEST = CN()
# For validation, test and label mapping: all images, in order. Larger batches are faster and change nothing
_C.DATALOADER.TEST.SAMPLER = "SequentialSampler"
_C.DATALOADER.TEST.BATCH_SIZE = 32

# ---------------------------------------------------------------------------------------------------------- MODEL
_C.MODEL = CN()
# Checkpoint to start the trained part from
_C.MODEL.INIT_WEIGHTS = ""

_C.MODEL.BACKBONE = CN()
# A short name (rn18, clip_vit_b16, tiny_vit ...: ALIASES in backbones/build.py), or any model of torchvision, timm or open_clip
_C.MODEL.BACKBONE.NAME = ""
# False = random weights, to try things out without any download
_C.MODEL.BACKBONE.PRETRAINED = True
# A local .pth or .safetensors file with the backbone's weights ("" = from the library's hub)
_C.MODEL.BACKBONE.WEIGHTS = ""
# Which of several models in that file: an entry such as state_dict_ema, or a prefix of the tensor names ("" = the usual entry)
_C.MODEL.BACKBONE.WEIGHTS_ENTRY = ""
# Fold the batch norms of a frozen CNN (CLIP's too) into its convolutions, and compute the input gradients of its 7x7 stem and
# of ReLU6 with less work; compute the class token alone in the last block of a frozen transformer where no other is read: faster,
# logits equal within 1e-4 of the largest
_C.MODEL.BACKBONE.FOLD = True
# Store the images and weights of a CNN (CLIP's too) in channels_last order: faster, equal up to rounding
_C.MODEL.BACKBONE.CHANNELS_LAST = True
# Where mean and std come from: weights, config (INPUT.PIXEL_MEAN, INPUT.PIXEL_STD)
_C.MODEL.BACKBONE.NORM = "weights"

# ---------------------------------------------------------------------------------------------------------- OPTIM
_C.OPTIM = CN()
# Optimizer
_C.OPTIM.NAME = "adam"
# Learning rate and weight decay at the start
_C.OPTIM.LR = 0.0003
_C.OPTIM.WEIGHT_DECAY = 5e-4
# sgd and rmsprop
_C.OPTIM.MOMENTUM = 0.9
_C.OPTIM.SGD_DAMPNING = 0.0
_C.OPTIM.SGD_NESTEROV = False
# rmsprop
_C.OPTIM.RMSPROP_ALPHA = 0.99
# adam, amsgrad, radam and adamw
_C.OPTIM.ADAM_BETA1 = 0.9
_C.OPTIM.ADAM_BETA2 = 0.999
_C.OPTIM.ADAM_EPS = 1e-8
# Train the layers in NEW_LAYERS with LR, all others with LR * BASE_LR_MULT
_C.OPTIM.STAGED_LR = False
_C.OPTIM.NEW_LAYERS = ()
_C.OPTIM.BASE_LR_MULT = 0.1
# Schedule of the learning rate
_C.OPTIM.LR_SCHEDULER = "single_step"
# When the rate steps, in epochs; a number between 0 and 1 is a share of MAX_EPOCH. -1 = never
_C.OPTIM.STEPSIZE = (-1,)
# Factor on the learning rate at each step
_C.OPTIM.GAMMA = 0.1
# Epochs to train; 0 = as many as BATCHES_PER_SHOT asks for
_C.OPTIM.MAX_EPOCH = 10
# With MAX_EPOCH 0: batches to train on for each training image per class (500 in CLIP-LoRA). The run takes the nearest number of
# whole epochs, at least one
_C.OPTIM.BATCHES_PER_SHOT = 500
# Epochs of warm-up; below 1 = none
_C.OPTIM.WARMUP_EPOCH = -1
# linear (WARMUP_MIN_LR in epoch 0, the share n / WARMUP_EPOCH of LR in epoch n), ramp (the share (n + 1) / WARMUP_EPOCH),
# constant
_C.OPTIM.WARMUP_TYPE = "linear"
# Step the schedules after each batch instead of each epoch; WARMUP_EPOCH then counts batches
_C.OPTIM.PER_ITERATION = False
# Learning rate of a constant warm-up, and the first of a linear one
_C.OPTIM.WARMUP_CONS_LR = 1e-5
_C.OPTIM.WARMUP_MIN_LR = 1e-5
# The rate that a cosine falls to
_C.OPTIM.COSINE_MIN_LR = 0.0
# True = the schedule starts from its beginning after the warm-up
_C.OPTIM.WARMUP_RECOUNT = True
# Length of a cosine that starts after the warm-up. True = the rest of MAX_EPOCH, so that it ends there (always so with
# PER_ITERATION); False = MAX_EPOCH, as in the family, so that the run ends before the cosine does
_C.OPTIM.COSINE_AFTER_WARMUP = False

# ---------------------------------------------------------------------------------------------------------- TRAIN
_C.TRAIN = CN()
# Keep the family's checkpoint files every so many epochs (0 = only those of the last epoch)
_C.TRAIN.CHECKPOINT_FREQ = 0
# Write the resume file every so many epochs, and every so many batches within an epoch (0 = only at its end)
_C.TRAIN.RESUME_FREQ = 1
_C.TRAIN.RESUME_BATCHES = 0
# Use only algorithms that give the same bits again on the same machine; slower on a GPU. An operation that has none on the device
# runs all the same, and torch warns of it
_C.TRAIN.DETERMINISTIC = False
# Print and write TensorBoard scalars every so many batches (of a long run about 500 points are written)
_C.TRAIN.PRINT_FREQ = 10
# Write pictures to TensorBoard every so many epochs (0 = before training and four times in it; always after the last)
_C.TRAIN.PICTURE_FREQ = 0
# At the end of a run, show features of test images in TensorBoard's projector and, where the extra `report` is installed, the
# figures of visualize.py
_C.TRAIN.END_FIGURES = True
# Arithmetic of the frozen backbone: auto (bf16 or fp16 on cuda and xpu, fp32 elsewhere), fp32, bf16, fp16
_C.TRAIN.PRECISION = "auto"
# Run the frozen backbone through torch.compile (logits equal within 1e-4 of the largest; takes a minute to start). Meant for GPUs:
# on a CPU only the passes without gradients gain from it. If it is not possible, a line says so
_C.TRAIN.COMPILE = False
# Record a whole training step once and have the device repeat it, without Python between its kernels: faster where a step is many
# small ones. On cuda and xpu with one process, in bf16 or fp32. Equal up to the rounding of learning rates to float32; goes with
# COMPILE
_C.TRAIN.GRAPH = False
# What runs the mask generator of SMM on a CPU: auto (numba where the extra of this name is installed, else torch), numba (compiled
# loops, faster than torch's operations; some seconds of compiling once on a machine), torch. Equal up to rounding
_C.TRAIN.KERNELS = "auto"
# On a CPU, keep the memory of a step for the next one instead of requesting it from the system again (bits do not change; the
# process holds its peak until it ends)
_C.TRAIN.KEEP_MEMORY = True
# Compute image features only once, for trainers that do not change the image side, if training images are not augmented
_C.TRAIN.CACHE_FEATURES = True
# Whose batches make an epoch of TrainerXU: train_x, train_u, smaller_one
_C.TRAIN.COUNT_ITER = "train_x"

# ----------------------------------------------------------------------------------------------------------- TEST
_C.TEST = CN()
# Name of a registered evaluator
_C.TEST.EVALUATOR = "Classification"
# Also print the accuracy of each class
_C.TEST.PER_CLASS_RESULT = False
# Save the confusion matrix, rows normalized, as cmat.pt
_C.TEST.COMPUTE_CMAT = False
# Keep in predictions.npz what the final test said of each image: path, label, predicted class, probabilities of all classes. Costs
# 2 bytes per image and class before compression (30,300 images of Food-101: 6 MB; 50,000 of ImageNet: 100 MB), in the file and,
# during the test, on the device; ECE and NLL in results.json do not need it, paired tests of `report` do
_C.TEST.PREDICTIONS = True
# Train only
_C.TEST.NO_TEST = False
# Split that the final test uses
_C.TEST.SPLIT = "test"
# After training, also test on the training images (with the transforms of the test), for the train-test gap
_C.TEST.TRAIN_GAP = True
# Model to test: last_step, best_val (needs a validation split; the test split never selects anything)
_C.TEST.FINAL_MODEL = "last_step"
# Where there is a validation split: its accuracy after the epochs, for a curve. It selects nothing unless FINAL_MODEL is best_val
_C.TEST.VAL_CURVE = True
# Accuracy on the test split after the epochs, for a curve. It selects nothing
_C.TEST.TEST_CURVE = False
# best_val and the curves: every so many epochs, and after the last
_C.TEST.VAL_FREQ = 1

# -------------------------------------------------------------------------------------------------------- TRAINER
_C.TRAINER = CN()
# Name of a registered trainer, in any case
_C.TRAINER.NAME = ""

_EXTENSIONS = [family.extend_cfg]


def add_defaults(extend_cfg: Callable[[CN], None]) -> None:
    """Have `extend_cfg(cfg)` add its keys to every configuration made from now on; a second call with it does nothing."""
    if extend_cfg not in _EXTENSIONS:
        _EXTENSIONS.append(extend_cfg)


def get_cfg_default() -> CN:
    """A fresh configuration: the defaults of the engine and of every plug-in loaded so far.

    Raises:
        ConfigError: the `extend_cfg` of a plug-in fails.
    """
    cfg = _C.clone()
    for extend_cfg in _EXTENSIONS:
        try:
            extend_cfg(cfg)
        except Exception as error:
            raise ConfigError(f"extend_cfg of {extend_cfg.__module__} failed with {type(error).__name__}: {error}") from error
    return cfg


def clean_cfg(cfg: CN, trainer: str) -> None:
    """Remove the keys of all trainers but `trainer`, in place, for shorter print-outs."""
    for key in list(cfg.TRAINER):
        if key != "NAME" and key != trainer.upper():
            cfg.TRAINER.pop(key)
