"""Distributions built from measurements alone: what they do is post-processing and costs nothing."""
