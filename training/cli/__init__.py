"""The commands that training adds to `gapnlp`, one module each."""
