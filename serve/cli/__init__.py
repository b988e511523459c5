"""The commands that the service adds to `gapnlp`, one module each."""
