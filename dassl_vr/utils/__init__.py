"""Small tools under the names of the Dassl family."""

from .checkpoint import load_checkpoint, load_pretrained_weights, resume_from_checkpoint, save_checkpoint
from .environment import collect_env_info, library_versions, peak_memory_bytes
from .errors import ConfigError, DataError, NonFiniteLossError, UserError, WeightsError
from .files import atomic_write, check_isfile, listdir_nohidden, mkdir_if_missing, read_image, read_json, write_json
from .logger import setup_logger
from .meters import AverageMeter, MetricMeter
from .misc import check_availability, count_num_param, open_all_layers, open_specified_layers, tolist_if_not
from .registry import Registry
from .seeding import get_random_states, set_random_seed, set_random_states
