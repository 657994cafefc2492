from yacs.config import CfgNode

_C = CfgNode(
    {
        "VERSION": 1,
        "OUTPUT_DIR": "./output",
        "RESUME": "",
        "SEED": -1,
        "USE_CUDA": True,
        "VERBOSE": True,
        "INPUT": {
            "SIZE": (224, 224),
            "INTERPOLATION": "bilinear",
            "TRANSFORMS": (),
            "NO_TRANSFORM": False,
            "PIXEL_MEAN": [0.485, 0.456, 0.406],
            "PIXEL_STD": [0.229, 0.224, 0.225],
        },
        "DATASET": {"ROOT": "", "NAME": "", "SOURCE_DOMAINS": (), "TARGET_DOMAINS": (), "NUM_SHOTS": -1, "VAL_PERCENT": 0.1},
        "DATALOADER": {
            "NUM_WORKERS": 0,
            "K_TRANSFORMS": 1,
            "RETURN_IMG0": False,
            "TRAIN_X": {"SAMPLER": "RandomSampler", "BATCH_SIZE": 32},
            "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
        },
        "MODEL": {"INIT_WEIGHTS": "", "BACKBONE": {"NAME": "", "PRETRAINED": True}},
        "OPTIM": {
            "NAME": "adam",
            "LR": 0.0003,
            "WEIGHT_DECAY": 5e-4,
            "MOMENTUM": 0.9,
            "STAGED_LR": False,
            "LR_SCHEDULER": "single_step",
            "ADAM_BETA1": 0.9,
            "ADAM_BETA2": 0.999,
            "STEPSIZE": (-1,),
            "GAMMA": 0.1,
            "MAX_EPOCH": 10,
            "WARMUP_EPOCH": -1,
        },
        "TRAIN": {"CHECKPOINT_FREQ": 0, "PRINT_FREQ": 10, "COUNT_ITER": "train_x"},
        "TEST": {"EVALUATOR": "Classification", "NO_TEST": False, "SPLIT": "test", "FINAL_MODEL": "last_step"},
        "TRAINER": {"NAME": ""},
    }
)
