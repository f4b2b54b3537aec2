import lightly_fs


def test_version_is_a_release():
    assert lightly_fs.__version__.count(".") == 2
