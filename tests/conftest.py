"""What several test files share: a classifier on the fake engine, and one tiny model that was really trained."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gapnlp.calibration import Calibration
from gapnlp.classifier import GapClassifier
from gapnlp.engines.fake import FakeEngine
from gapnlp.model_dir import MANIFEST, Decision, write_json

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on matrices as small as here, threads only wait for each other

DATA = Path(__file__).parent.parent / "data"
RUN_MAIN = (sys.executable, "-W", "error", "-c", "from gapnlp.cli.main import main; main()")
# To the fake engine "slow" speaks for delivery, "promised" for communication, any other word against all.
VOCABULARY = {"[UNK]": 0, "promised": 4, "slow": 11}


@pytest.fixture
def loads(monkeypatch):
    """Let every load give a tiny classifier on the fake engine; the calls are recorded as (path, n_threads)."""
    calls = []

    def load(path=None, *, engine="openvino", n_threads=None):
        calls.append((path, n_threads))
        tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        # The threshold of knowledge is high on purpose: labels must follow thresholds, not one half.
        decision = Decision(Calibration((1.0,) * 5, (0.0,) * 5, (0.99, 0.5, 0.5, 0.5, 0.5)), 0.7, 0.9, 0.5, "nothing")
        return GapClassifier(FakeEngine(), tokenizer, decision=decision, name="tiny@1.0")

    monkeypatch.setattr(GapClassifier, "load", load)
    return calls


@dataclass(frozen=True)
class Trained:
    """The tiny model, and what `gapnlp train` said while it was made."""

    path: Path
    output: str
    train: Path
    validation: Path


@pytest.fixture(scope="session")
def read_corpus():
    """Return a function that reads the first rows of a split."""
    from training.corpus import read_examples

    def read(split, n_rows):
        return read_examples(DATA / f"{split}.jsonl")[:n_rows]

    return read


@pytest.fixture(scope="session")
def real_texts(read_corpus):
    """60 texts of the test split, from the shortest to the longest."""
    texts = sorted((example.text for example in read_corpus("test", None)), key=len)
    return [texts[round(index)] for index in (step * (len(texts) - 1) / 59 for step in range(60))]


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory, read_corpus):
    """A BERT of two narrow layers with random weights; it knows frequent words and spells out the rest."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    text = " ".join(example.text for example in read_corpus("train", 100)).lower()
    characters = sorted({char for char in text if not char.isspace()})
    counts = Counter(word for word in text.split() if word.isalpha() and len(word) > 1)
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:300]]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{char}" for char in characters), *words]
    tokenizer = BertTokenizerFast(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=128)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    # The wide random weights make texts differ; narrow ones give every text nearly the same scores.
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.2, **shape)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def settings(encoder_dir):
    """Overrides of the recipe that make training a matter of seconds."""
    return (
        f'model.base="{encoder_dir.as_posix()}"',
        'model.name="tiny"',
        'model.version="1.0"',
        "model.layers=0",
        "model.frozen_layers=0",
        "model.max_length=64",
        "optim.epochs=2",
        "optim.learning_rate=2e-3",
        "data.floor=5",
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory, settings):
    """Train the tiny model by the real command, once: exporting its graph alone takes many seconds."""
    folder = tmp_path_factory.mktemp("trained")
    paths = {}
    for split, n_rows in (("train", 100), ("validation", 60)):
        paths[split] = folder / f"{split}.jsonl"
        lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        paths[split].write_text("".join(lines[:n_rows]), encoding="utf-8")
    output = folder / "models" / "tiny"
    command = [*RUN_MAIN, "train", paths["train"], "--validation", paths["validation"], "-o", output]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Trained(output, done.stdout + done.stderr, **paths)


@pytest.fixture(scope="session")
def model_dir(trained):
    """The folder of the tiny model; to be read only."""
    return trained.path


@pytest.fixture(scope="session")
def classifier(model_dir):
    """The tiny model on the light engine."""
    return GapClassifier.load(model_dir)


@pytest.fixture
def model_copy(model_dir, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(model_dir, tmp_path / "copy"))


@pytest.fixture
def edit_manifest():
    """Return a function that changes fields of a model's manifest."""

    def edit(folder, **changes):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        write_json(folder / MANIFEST, manifest | changes)

    return edit


@pytest.fixture
def edit_file(edit_manifest):
    """Return a function that changes a file of a model and lets the manifest vouch for the new bytes."""
    from gapnlp.model_dir import file_digest

    def edit(folder, name, content):
        (folder / name).write_bytes(content)
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        edit_manifest(folder, files=files | {name: file_digest(folder / name)})

    return edit
