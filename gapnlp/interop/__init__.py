"""gapnlp inside other libraries."""
