"""Settings of a training run: the recipe, a file over it, overrides over both."""

import tomllib
from pathlib import Path

import pytest

from gapnlp.errors import ConfigError
from training.config import TrainingConfig, dump_config, load_config

RECIPE = Path(__file__).parent.parent / "training" / "recipe.toml"


@pytest.mark.parametrize("path", sorted(set(RECIPE.parent.glob("*.toml")) - {RECIPE}), ids=lambda path: path.stem)
def test_every_file_beside_the_recipe_changes_something_in_it(path):
    assert load_config(path) != load_config()


def test_a_file_beside_the_recipe_goes_by_its_name_unless_one_of_that_name_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("further")) == load_config(RECIPE.parent / "further.toml")
    (tmp_path / "further").write_text("[optim]\nepochs = 7\n", encoding="utf-8")
    assert load_config(Path("further")) == load_config(overrides=["optim.epochs=7"])
    with pytest.raises(ConfigError, match="the settings in farther cannot be read"):
        load_config(Path("farther"))


def test_the_recipe_alone_is_complete():
    assert load_config().model_dump() == tomllib.loads(RECIPE.read_text(encoding="utf-8"))


def test_a_file_changes_what_it_names_and_an_override_goes_before_it(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[optim]\nepochs = 7\nbatch_size = 4\n", encoding="utf-8")
    config = load_config(path, overrides=["optim.epochs=9", "optim.seeds=[3, 4]", "model.base=some/encoder"])
    assert (config.optim.epochs, config.optim.batch_size, config.optim.seeds) == (9, 4, [3, 4])
    assert config.model.base == "some/encoder"
    assert config.data == load_config().data


@pytest.mark.parametrize("given", ["1.10", '"1.10"', " 1.10 "])
def test_a_version_that_looks_like_a_number_stays_what_was_written(given):
    assert load_config(overrides=[f"model.version={given}"]).model.version == "1.10"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=3", r"optim\.epoch: Extra inputs"),
        ("optimizer.epochs=3", r"optimizer: Extra inputs"),
        ("optim.epochs=three", r"optim\.epochs: .*valid integer"),
        ("optim.epochs=1.5", r"optim\.epochs: .*integer"),
        ("optim.epochs=0", r"optim\.epochs: .*greater than 0"),
        ("optim.learning_rate=-1", r"optim\.learning_rate: .*greater than 0"),
        ("optim.learning_rate=inf", r"optim\.learning_rate: .*finite"),
        ("optim.learning_rate=nan", r"optim\.learning_rate: "),
        ("optim.seeds=[]", r"optim\.seeds: .*at least 1"),
        ("optim.seeds=[-1]", r"optim\.seeds\.0: .*greater than or equal to 0"),
        ("optim.seeds=1", r"optim\.seeds: .*valid list"),
        ("optim.precision=int8", r"optim\.precision: .*'auto', 'fp32' or 'bf16'"),
        ("model.max_length=8", r"model\.max_length: .*16"),
        ("model.name=../elsewhere", r"model\.name: .*pattern"),
        ("data.validation_share=0.9", r"data\.validation_share: .*less than 0\.5"),
        ("distil.soft_weight=1.1", r"distil\.soft_weight: .*less than or equal to 1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(overrides=[override])
    assert "training/recipe.toml explains each one" in str(caught.value)


def test_every_problem_is_told_at_once():
    with pytest.raises(ConfigError, match=r"optim\.epochs: .*; .*data\.floor: "):
        load_config(overrides=["optim.epochs=0", "data.floor=0"])


@pytest.mark.parametrize("override", ["epochs=3", "optim.epochs", "optim.=3", ".epochs=3", "", "="])
def test_an_override_of_another_shape_is_refused(override):
    with pytest.raises(ConfigError, match=r"expected section\.name=value, for example optim\.epochs=3"):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[optim", r"mine\.toml cannot be read"),
        (b"\xff", r"mine\.toml cannot be read"),
        (b"epochs = 3", r"got 'epochs' outside of a section"),
        (b"[optim]\nepoch = 3", r"optim\.epoch: Extra inputs"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("overrides", [(), ('model.base="C:\\\\models\\\\\\"mine\\""', "optim.seeds=[1, 2]")])
def test_what_is_saved_loads_as_the_same_settings(tmp_path, overrides):
    config = load_config(overrides=overrides)
    path = tmp_path / "training.toml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    assert TrainingConfig.model_validate(tomllib.loads(dump_config(config))) == config
