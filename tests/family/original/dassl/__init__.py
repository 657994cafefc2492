"""A stand-in for the original Dassl in the tests: as much of its surface as the doors touch, with its habits.

It follows its documentation, not its code: taken names raise KeyError, only whole batches are trained on, images come from files,
checkpoints are loaded strictly and by the best validation result, and the writer is closed when training ends.
"""
