"""Audits: a small part of an archive, drawn by chance and read by people, that says how much to trust the rest."""

from gapnlp.audit.agreement import Agreement, reader_agreement
from gapnlp.audit.design import Design, Draw, choose_design, draw_rows, fingerprint
from gapnlp.audit.estimate import audited_estimates
from gapnlp.audit.plan import GapPlan, Plan, plan_audit
from gapnlp.audit.sample import Audit

__all__ = [
    "Agreement",
    "Audit",
    "Design",
    "Draw",
    "GapPlan",
    "Plan",
    "audited_estimates",
    "choose_design",
    "draw_rows",
    "fingerprint",
    "plan_audit",
    "reader_agreement",
]
