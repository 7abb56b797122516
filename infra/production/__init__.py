"""The production profile on one machine, on loopback and without containers: `make production`.

Its servers of PostgreSQL and S3 serve the tests, too. Not here: production itself, on many machines (../README.md).
"""
