"""How soon a helpdesk's webhook is acknowledged, and its ticket tagged.

    python -m benchmarks.webhooks [--seconds 30] [--rate 20]

`gapnlp serve` serves a stand-in for a helpdesk that answers at once, so that the service's own time is measured: a real
one adds that of two calls over the network. Each webhook is of another ticket; the texts are as long as real comments,
no two alike, and all of them such that the model has a tag for them. They leave at a steady rate, whatever the service
does. Everything shares this machine. Writes `results/webhooks.json` and `webhooks.md`, and ends with 1 where a goal is
missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import uvloop

from benchmarks.desk import SECRETS, Desk, open_desk
from benchmarks.load import Sample, open_loop, percentile
from benchmarks.report import Figures, Goal, new_parser, table_head, table_row, write_report
from benchmarks.serving import free_port, gapnlp_server
from benchmarks.texts import make_texts
from gapnlp.classifier import GapClassifier

ACCEPTED = 202
MAX_ACKNOWLEDGED = 500.0  # milliseconds, of 99 in 100
MAX_TAGGED = 1000.0  # milliseconds, of 99 in 100
PATIENCE = 60.0  # seconds for tags that have not come when the last webhook is acknowledged
AFTERWARDS = 2.0  # seconds in which a second write would show


def main() -> None:
    """Send the webhooks, watch the tickets and write the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=20, help="webhooks a second")
    options = parser.parse_args()
    texts = texts_with_tags(int(options.seconds * options.rate))
    port = free_port()
    with open_desk() as desk, TemporaryDirectory() as scratch:
        connectors = Path(scratch) / "connectors.toml"
        connectors.write_text(desk.table, encoding="utf-8")
        with gapnlp_server(port, secrets=SECRETS, connectors=connectors):
            samples, sent_at = uvloop.run(send(desk, texts, port=port, rate=options.rate))
    figures, goals = judge(samples, sent_at=sent_at, tagged_at=desk.tagged_at)
    title = "From a helpdesk's webhook to the tag"
    raise SystemExit(
        write_report("webhooks", figures, title=title, lines=_lines(figures), options=options, goals=goals)
    )


def texts_with_tags(n_texts: int) -> list[str]:
    """Return made-up texts in which the model finds a gap, or something to be looked at."""
    classifier, found = GapClassifier.load(), list[str]()
    for seed in range(10):
        texts = list(dict.fromkeys(make_texts(n_texts * 5 // 4 + 10, seed=seed)))
        found += [
            text for text, read in zip(texts, classifier.predict(texts), strict=True) if read.labels or read.review
        ]
        found = list(dict.fromkeys(found))
        if len(found) >= n_texts:
            return found[:n_texts]
    raise RuntimeError(f"the model would tag {len(found):,} of the made-up texts, but {n_texts:,} are to be sent")


async def send(desk: Desk, texts: Sequence[str], *, port: int, rate: float) -> tuple[list[Sample], dict[str, float]]:
    """Send a webhook for each text and wait until all tickets are tagged, or no more can be hoped for.

    Returns:
        The acknowledgements, and when each ticket's webhook was sent, by `time.perf_counter`.
    """
    sent_at: dict[str, float] = {}

    def requests() -> Iterator[bytes]:
        for number, text in enumerate(texts, 1):
            request = desk.webhook(str(number), text)
            sent_at[str(number)] = time.perf_counter()
            yield request

    samples = await open_loop(port, requests(), rate=rate, seconds=len(texts) / rate)
    end = time.perf_counter() + PATIENCE
    while len(desk.tagged_at) < len(sent_at) and time.perf_counter() < end:
        await asyncio.sleep(0.05)
    await asyncio.sleep(AFTERWARDS)
    return samples, sent_at


def judge(
    samples: Sequence[Sample], *, sent_at: Mapping[str, float], tagged_at: Mapping[str, Sequence[float]]
) -> tuple[Figures, list[Goal]]:
    """Compare what was sent with what was acknowledged and tagged; times in milliseconds."""
    waits = [1000 * (tagged_at[ticket][0] - at) for ticket, at in sent_at.items() if ticket in tagged_at]
    acknowledged = [1000 * percentile(samples, share) for share in (0.5, 0.99)]
    tagged = np.quantile(waits, (0.5, 0.99)).tolist() if waits else [float("nan")] * 2
    figures = {
        "n_webhooks": len(sent_at),
        "acknowledged_ms": dict(zip(("p50", "p99"), acknowledged, strict=True)),
        "tagged_ms": dict(zip(("p50", "p99"), tagged, strict=True)),
    }
    not_once = sum(len(tagged_at.get(ticket, ())) != 1 for ticket in sent_at)
    return figures, [
        Goal("p99 of an acknowledgement", acknowledged[1], MAX_ACKNOWLEDGED, "ms"),
        Goal("webhooks not acknowledged", sum(sample.status != ACCEPTED for sample in samples), 0),
        Goal("p99 from a webhook to its tag", tagged[1], MAX_TAGGED, "ms"),
        Goal("tickets not tagged exactly once", not_once, 0),
    ]


def _lines(figures: Figures) -> list[str]:
    rows = [
        table_row(name, *(f"{figures[key][share]:,.0f} ms" for share in ("p50", "p99")))
        for name, key in (("acknowledged", "acknowledged_ms"), ("tagged", "tagged_ms"))
    ]
    return [
        f"{figures['n_webhooks']:,} webhooks to `gapnlp serve`; the stand-in for the helpdesk shares the machine, and",
        "answers at once.",
        "",
        *table_head("after the webhook was sent", "median", "p99"),
        *rows,
    ]


if __name__ == "__main__":
    main()
