"""The machine: memory, processes, interrupts, files that cannot be trusted, tables and progress."""
