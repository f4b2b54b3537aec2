"""Bytes to pixels; what cannot be decoded becomes a reason."""
