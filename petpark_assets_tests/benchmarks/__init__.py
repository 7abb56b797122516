"""The measured claims: what README says in numbers, with the command, the machine and the versions beside them.

Never part of `make test`: a speed is not a test. `make bench` runs them and rewrites results/.
"""
