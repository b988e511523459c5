"""The model card."""

from gapnlp.model_dir import ModelDir


def write_card(model: ModelDir) -> None:
    """Write README.md."""
    (model.path / "README.md").write_text("# card\n")
