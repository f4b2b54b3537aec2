"""Convert the bundled model for OpenVINO, so that a first run need not; run it after training.

python scripts/convert_bundled.py
"""

from __future__ import annotations

import shutil

from lightly_fs.embedding.load import load_bundled
from lightly_fs.embedding.openvino_runtime import SHIPPED, ship


def main() -> None:
    shutil.rmtree(SHIPPED, ignore_errors=True)
    entry = ship(load_bundled(), SHIPPED)
    for file in sorted(entry.iterdir()):
        print(f"{file.stat().st_size:>10,} {file}")


if __name__ == "__main__":
    main()
