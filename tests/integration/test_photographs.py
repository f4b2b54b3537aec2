"""Real photographs on a real mount, with the bundled model: the sums, and the same bytes twice."""

import json
import shutil

import pytest

from lightly_fs.artifacts import Manifest
from tests.integration.mounted_bucket import cli, mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

N_TRUNCATED, N_COPIES = 5, 3


@pytest.fixture(scope="module")
def photographs(test_data, tmp_path_factory):
    """All of COCO128's images, with five truncated and three copied."""
    folder = tmp_path_factory.mktemp("coco128") / "images"
    shutil.copytree(test_data / "coco128" / "images", folder)
    files = sorted(folder.rglob("*.jpg"))
    for path in files[: 10 * N_TRUNCATED : 10]:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for path in files[5 : 5 + N_COPIES]:
        shutil.copy(path, folder / f"zz_copy_{path.name}")
    return folder


def test_a_tenth_of_the_photographs_is_selected_through_the_mount(s3, photographs, tmp_path):
    n_files = sum(path.is_file() for path in photographs.rglob("*"))
    with mounted_buckets(s3, photographs, tmp_path) as both:
        words = (f"input_dir={both.input_dir}", f"output_dir={both.output_dir}", "--n-samples=0.1")
        through = {}
        for kind in ("mount", "object"):
            done = cli(
                both, "run", *words, "--read-through", kind, "--json", f"run_directory={kind}"
            )
            assert done.returncode == 0, done.stderr
            through[kind] = both.content(f"{kind}/data/embeddings.parquet")
            counts = json.loads(done.stdout)["counts"]
            manifest = Manifest.decode(both.content(f"{kind}/manifest.json"))

    usable = n_files - N_TRUNCATED - N_COPIES
    expected = {
        "inventory": n_files,
        "embedded": n_files - N_TRUNCATED,
        "corrupt": N_TRUNCATED,
        "duplicate": N_COPIES,
        "selected": usable // 10,
        "removed": usable - usable // 10,
    }
    assert expected.items() <= counts.items()
    assert manifest is not None
    assert counts["inventory"] == manifest.counts.inventory
    assert through["mount"] == through["object"]
