"""Mount a bucket, embed its images, select the ones worth labelling, and report."""

__version__ = "0.1.0"
