"""The settings of the server."""

from dataclasses import dataclass, fields

from hf_fusion.models.configuration_common import is_number
from hf_fusion.utils.errors import DataError

_MAY_BE_ZERO = ("max_wait_ms",)


@dataclass(frozen=True)
class ServerOptions:
    """
    The limits of the server.

    Args:
        max_batch_size (`int`, *optional*, defaults to 32): inputs of requests that are joined, and of a forward pass.
        max_wait_ms (`float`, *optional*, defaults to 5): milliseconds that a request waits for others.
        max_queue (`int`, *optional*, defaults to 1024): inputs that wait, at most; further requests get a 503.
        timeout (`float`, *optional*, defaults to 30): seconds from the head of a request to its answer.
        max_body_mb (`float`, *optional*, defaults to 16): MiB of a request with JSON.
        max_media_mb (`float`, *optional*, defaults to 64): MiB of a request with media files.
        media_timeout (`float`, *optional*, defaults to 60): seconds for reading a media file, beside `timeout`.
        max_inputs, max_text_length, max_frames (`int`, *optional*): see [`EndpointHandler`].

    Raises:
        DataError: if a value is not above 0; `max_wait_ms` may be 0.
    """

    max_batch_size: int = 32
    max_wait_ms: float = 5.0
    max_queue: int = 1024
    timeout: float = 30.0
    max_body_mb: float = 16.0
    max_media_mb: float = 64.0
    media_timeout: float = 60.0
    max_inputs: int = 256
    max_text_length: int = 50_000
    max_frames: int = 20_000

    def __post_init__(self):
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in _MAY_BE_ZERO else None
            in_bytes = value * 2**20 if is_number(value) else value
            if not is_number(in_bytes) or not (value > 0 or value == least):
                expected = "0 or more" if least == 0 else "above 0"
                raise DataError(f"`{field.name}` must be {expected}, got {value!r:.50}.")

    @property
    def max_body(self) -> int:
        """Bytes of a body with JSON, at most."""
        return int(self.max_body_mb * 2**20)

    @property
    def max_media(self) -> int:
        """Bytes of a body with media files, at most."""
        return int(self.max_media_mb * 2**20)

    def handler_limits(self) -> dict[str, int]:
        """Returns the arguments of [`EndpointHandler`]."""
        names = ("max_inputs", "max_text_length", "max_frames")
        return {"batch_size": self.max_batch_size, **{name: getattr(self, name) for name in names}}
