"""What exists only for the Dassl family: the doors in both directions, and the names that no code of ours uses.

`dassl` serves the family's names from this package, `host` puts our trainers into an installed original. Only the two entry points
import this folder: `dassl_vr.register` and `dassl_vr.plugins`.
"""
