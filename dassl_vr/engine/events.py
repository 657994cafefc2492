"""Write TensorBoard's event files such that a run notices a failure."""

import contextlib
import io
import itertools
import os
import socket
import time

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

from ..utils.errors import DiskError
from ..utils.places import check_in_place, naming_file

EVENTS = "tensorboard"  # directory of a run's events


class EventWriter(SummaryWriter):
    """torch's `SummaryWriter`, except that an event is in the file when `add_...` returns.

    The writer of TensorBoard has a thread for this, which prints a traceback where the disk is full, and reopens the file by its
    name for each event.

    Args:
        log_dir: directory of the events.
        purge_step: the events of earlier files from this step on are hidden; None = nothing is.

    Raises:
        OSError: an event cannot be written; names the file.
        DiskError: the directory was moved or removed meanwhile.
    """

    def __init__(self, log_dir, purge_step=None):
        super().__init__(log_dir)
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self.file_writer.add_event(Event(step=purge_step, session_log=start))

    def _get_file_writer(self):
        if self.file_writer is None:
            self.file_writer = _FileWriter(self.log_dir)
            self.all_writers = {self.log_dir: self.file_writer}
        return self.file_writer

    def add_embedding(self, *args, **kwargs) -> None:
        """As torch's, in text files beside the events; those of an interrupted end of a run are replaced."""
        check_in_place(self.log_dir)
        with naming_file(self.log_dir), contextlib.redirect_stdout(io.StringIO()):  # torch would warn of them
            super().add_embedding(*args, **kwargs)


class _FileWriter(FileWriter):
    def __init__(self, log_dir):
        self.event_writer = _EventFile(log_dir)


class _EventFile:
    """What TensorBoard calls an `EventFileWriter`."""

    def __init__(self, log_dir):
        check_in_place(log_dir)
        os.makedirs(log_dir, exist_ok=True)
        self._log_dir = log_dir
        for number in itertools.count():
            name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{number}"
            self.path = os.path.join(log_dir, name)
            try:
                self._file = open(self.path, "xb")  # noqa: SIM115
                break
            except FileExistsError:
                continue
        self._records = RecordWriter(self._file)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self):
        return self._log_dir

    def add_event(self, event):
        if not os.path.exists(self.path):
            check_in_place(self.path)
            run = os.path.dirname(self._log_dir)
            raise DiskError(f"{self.path}: was moved or removed while the run wrote to it; add --resume {run} to continue")
        with naming_file(self.path):
            self._records.write(event.SerializeToString())
            self._file.flush()

    def flush(self):
        """Do nothing: each event is written at once."""

    def close(self):
        with naming_file(self.path):
            self._file.close()
