"""Memory of the process on a CPU."""

import ctypes
import platform

# Parameters of glibc's `mallopt` (malloc.h)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
# What glibc's sliding threshold ends at once large blocks have been freed, with its own factor of 2 for trimming
_DEFAULT_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory(keep: bool = True) -> bool:
    """Whether memory that tensors leave stays with this process for the next ones; bits of results do not change.

    The C library gives blocks above 32 MB back to the system at once, and each training step then gets its activations anew, page
    by page: a fifth of a step's time on a CPU. Kept, they are there already; the process then holds its peak until it ends.

    Args:
        keep: False = the C library's own way again; what is kept is given back.

    Returns:
        Whether it could be set (with glibc, that is on most Linux systems).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    threshold = _DEFAULT_MMAP_THRESHOLD
    settings = (
        ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))  # never a mapping of its own; never trimmed
        if keep
        else ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, threshold), (_M_TRIM_THRESHOLD, 2 * threshold))
    )
    done = all(libc.mallopt(*setting) == 1 for setting in settings)
    if not keep:
        libc.malloc_trim(0)
    return done
