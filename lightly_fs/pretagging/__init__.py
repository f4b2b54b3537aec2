"""Pretagging: a detector looks at every image, and a selection can use what it found."""
