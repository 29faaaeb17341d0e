"""The errors of imgdiff. A message names the key or file, the value, the rule and the remedy."""


class ImgdiffError(Exception):
    """Anything imgdiff refuses to do, with a message a user can act on."""


class ConfigError(ImgdiffError):
    """A setting is wrong; raised before any model is loaded."""


class DataError(ImgdiffError):
    """An input file or record is wrong and cannot be counted as a rejected record."""


class BackendError(ImgdiffError):
    """A model or its checkpoint cannot be used."""


class StoreError(ImgdiffError):
    """A file of the score store or of an output folder is damaged or belongs to another run."""
