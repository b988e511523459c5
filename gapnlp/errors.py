"""Every error that gapnlp raises on purpose.

GapnlpError                 the base: catch this to catch them all
├── InputError              a file, column or row cannot be used as it is
│   └── ColumnError         the text column is missing, or cannot be told for certain
├── UnknownGapError         a name that is no name of a gap
├── ModelError              a model directory cannot be used
│   ├── ModelNotFoundError  there is no model where one was looked for
│   └── UnsafeModelError    its files are not those of its manifest, or may run code
├── ConfigError             a setting is unknown or out of its range
├── CorpusError             labelled rows that training must not use as they are
└── MissingExtraError       an optional package is needed and not installed

A message says what was got, what was expected and what to do. The command line prints it alone, without a traceback.
"""


class GapnlpError(Exception):
    """Anything gapnlp refuses, with the reason and the way out in one message."""


class InputError(GapnlpError):
    """A file, column or row cannot be used as it is."""


class ColumnError(InputError):
    """The text column is missing, or cannot be told for certain."""


class UnknownGapError(GapnlpError):
    """A name that is no name of a gap; the message offers the nearest ones."""


class ModelError(GapnlpError):
    """A model directory cannot be used."""


class ModelNotFoundError(ModelError):
    """There is no model where one was looked for."""


class UnsafeModelError(ModelError):
    """A model directory's files are not those of its manifest, or may run code."""


class ConfigError(GapnlpError):
    """A setting is unknown or out of its range."""


class CorpusError(GapnlpError):
    """Labelled rows that training must not use as they are."""


class MissingExtraError(GapnlpError):
    """An optional package is needed and not installed; the message names the extra."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed: run  pip install 'gapnlp[{extra}]'"
        )
