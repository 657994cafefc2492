"""The door into an installed original Dassl: `import dassl_vr.register` in a train.py of that family adds our trainers to it.

The line may be anywhere before the configuration is made: names that are taken, or will be, stay theirs. Where `dassl` is served
from ours (`--plugin` with that same train.py) there is nothing to add.
"""

from .family import dassl as door

try:
    import dassl  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"dassl_vr.register needs an installed Dassl.pytorch, and it cannot be imported: {error}") from error

if door.original() is not None:
    from .family.host import publish

    publish()
