"""Runs of training that are stopped on the way."""

import pytest

from training.pipeline import train_model


class Stopped(Exception):  # noqa: N818  it is no error
    """Raised by a listener in the place of a person's Ctrl-C."""


def train_until(step, rows, output, *, first=("seed 1",), **options):
    """Train to a step and stop there; return the steps that were told, of the stages that are expected."""
    told, stages = [], []

    def listen(stage, progress):
        stages.append(stage)
        if progress.loss is None:
            return
        told.append(progress.step)
        if progress.step >= step and (step % 7 or progress.validation is not None):
            raise Stopped

    with pytest.raises(Stopped):
        train_model(rows, output, listen=listen, **options)
    assert tuple(dict.fromkeys(stages)) == first
    return told
