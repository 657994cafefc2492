import pytest

from dassl_vr.utils.errors import ConfigError
from dassl_vr.utils.misc import check_availability, tolist_if_not


def test_lists_and_names():
    assert tolist_if_not(1) == [1] and tolist_if_not([1]) == [1]
    check_availability("a", ["a", "b"])
    with pytest.raises(ConfigError, match="did you mean 'resnet'"):
        check_availability("resnt", ["resnet", "vit"])
