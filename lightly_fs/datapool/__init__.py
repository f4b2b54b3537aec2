"""The datapool: which files were processed, what they showed, and what of it was selected.

Opened by `opening.open_pool` (to write) or `opening.read_pool`; `docs/concepts/datapool.md` has
the format of its files.
"""
