"""The bucket's `.lightly/` folder as values; other label formats in and out."""
