"""The five steps of the workflow, a module each: ingestion, training, testing, packaging, registration.

Plain Python: each step reads its parents' records, calls its room, stores what came out, writes its record and
returns it. A step of an attempt whose record exists already returns that record and does no work: records never
change. The Dagster assets, `petpark` and the tests all call these functions, so that the same work gives the same
digests whoever asks for it.

Not here: how a step does its work (the rooms below), or what Dagster shows of it (assets/).
"""
