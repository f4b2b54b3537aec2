"""`python -m lightly_fs` is `lightly-fs`."""

from lightly_fs.cli import main

main()
