"""features.h5: what every stage reads and writes, and how a commit survives a kill."""
