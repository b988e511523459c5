"""Archives past one machine: the labelling of `archive`, a partition at a time, over Ray Data."""

from gapnlp.distributed.cluster import run_distributed
from gapnlp.distributed.plan import PartitionOptions
from gapnlp.distributed.run import classify_partitions
from gapnlp.distributed.worker import load_once

__all__ = ["PartitionOptions", "classify_partitions", "load_once", "run_distributed"]
