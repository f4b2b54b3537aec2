import pytest

from .folder import LightlyFolder


@pytest.fixture
def folder(tmp_path):
    return LightlyFolder(tmp_path)
