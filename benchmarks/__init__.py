"""Speed of realmkit, measured in one process: `python -m benchmarks` (`make bench`).

Each module measures one thing and is listed in :mod:`benchmarks.runner`. Whatever is compared is measured in turns
(A B A B ...) after a warm-up, in CPU time of this process, and the median counts.
"""
