"""Tests of what speaks S3, against servers that they start."""
