"""What computing costs: a price table that the user sets."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from harness.records import Model
from pipelines.errors import AmiraError

SECONDS_PER_HOUR = 3600.0


class Prices(Model):
    """A price table.

    Attributes:
        core_hour: Price of one core for one hour.
        currency: What it is in.
    """

    core_hour: float = Field(gt=0)
    currency: str = "USD"

    def of_cpu_s(self, seconds: float) -> float:
        """The price of so many CPU seconds."""
        return seconds / SECONDS_PER_HOUR * self.core_hour


def load_prices(path: Path) -> Prices:
    """Read a price table from TOML: `core_hour = 0.04` and, if it is not USD, `currency = "EUR"`.

    Raises:
        AmiraError: The file cannot be read, or says something else.
    """
    try:
        return Prices.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise AmiraError(f"price table '{path}' cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AmiraError(f"price table '{path}' is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise AmiraError(
            f"price table '{path}': {place}: {first['msg']}. It takes core_hour (a number) and currency (a word)."
        ) from error
