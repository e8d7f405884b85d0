"""The files of a run's output folder, by name."""

DATABASE = "features.h5"
RUN_JSON = "run.json"
REPORT = "report.html"
REFINE_JSON = "refine.json"
DESCRIPTORS = "descriptors.npz"
