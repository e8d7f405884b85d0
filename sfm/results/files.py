"""The files of a run's output folder, by name."""

DATABASE = "features.h5"
RUN_JSON = "run.json"
REPORT = "report.html"
DESCRIPTORS = "descriptors.npz"
