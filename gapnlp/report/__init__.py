"""Reports: from labelled files to which gap to close first, with figures that say how sure they are."""

from gapnlp.report.build import ReportOptions, build_report
from gapnlp.report.content import ReportContent
from gapnlp.report.formats import render
from gapnlp.report.tables import tables, to_frames

__all__ = ["ReportContent", "ReportOptions", "build_report", "render", "tables", "to_frames"]
