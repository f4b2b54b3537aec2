"""What a run leaves: shards' parts while it works, tables, lists and a manifest in the end."""

from lightly_fs.artifacts.dump import dump_images, dump_names, require_all
from lightly_fs.artifacts.lists import check_lists, read_list
from lightly_fs.artifacts.manifest import Manifest
from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.artifacts.record import run_folder
from lightly_fs.artifacts.results import Results, SelectionRecord, write_results
from lightly_fs.artifacts.run_dir import RunDir
from lightly_fs.escaping import escape, unescape

__all__ = [
    "EmbeddedTable",
    "Manifest",
    "Results",
    "RunDir",
    "SelectionRecord",
    "check_lists",
    "dump_images",
    "dump_names",
    "escape",
    "read_list",
    "require_all",
    "run_folder",
    "unescape",
    "write_results",
]
