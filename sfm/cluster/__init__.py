"""Many machines, many GPUs: blocks of pairs matched and verified by the workers of a Ray cluster.

The process that was started, the driver, is the only one that writes; workers get bytes and give back arrays.
"""
