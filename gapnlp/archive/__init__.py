"""Archives: files of customers' texts, read, labelled and written a chunk at a time."""

from gapnlp.archive.columns import GAP_COLUMNS
from gapnlp.archive.job import ArchiveJob, JobOptions, Watch, open_job
from gapnlp.archive.reader import open_source
from gapnlp.archive.summary import Summary

__all__ = ["GAP_COLUMNS", "ArchiveJob", "JobOptions", "Summary", "Watch", "open_job", "open_source"]
