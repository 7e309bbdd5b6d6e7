"""Measures Hybridge beside what a user would pick instead, in one run.

Run it by ``python -m benchmarks`` or ``make bench``. `target` and `load` are the two ends of the
load generator, `peers` what stands between them, `measures` what is asked, `report` what is shown.
"""
