"""Errors a user can mend; the text of each is one sentence that says how."""


class AdmmExpError(Exception):
    """An error a user can mend; its text is one sentence."""


class ConfigError(AdmmExpError):
    """A setting has a value that is not allowed."""


def require(name: str, value: object, is_allowed: bool, allowed: str) -> None:
    """Refuse the value of a setting.

    Raises:
        ConfigError: If it is not allowed, with what is.
    """
    if not is_allowed:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}")


class DataError(AdmmExpError):
    """A data set is missing, damaged or does not fit the settings."""


class ModelError(AdmmExpError):
    """A network cannot be built, run or pruned."""


class DeviceError(AdmmExpError):
    """The machine lacks the device that was asked for."""


class TrainingError(AdmmExpError):
    """Training cannot go on."""


class StoppedError(AdmmExpError):
    """A run is ended because going on is pointless."""


class ProcessError(AdmmExpError):
    """A process that trains along has died or does not answer."""


class SurgeryError(AdmmExpError):
    """The cut network does not compute what the masked one does."""


class TrackingError(AdmmExpError):
    """The tracking server or database cannot be used."""


class CheckpointError(AdmmExpError):
    """A checkpoint or model file is missing or damaged."""


class StorageError(AdmmExpError):
    """The disk is full."""
