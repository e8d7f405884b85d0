"""A verb a file: its arguments, and what is called and printed. Nothing heavy is imported before a verb runs."""
