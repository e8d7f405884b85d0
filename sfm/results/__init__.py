"""What a run says at its end: console, run.json, inspect."""
