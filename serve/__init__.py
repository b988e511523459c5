"""The HTTP service; its commands join `gapnlp` when it is there."""
