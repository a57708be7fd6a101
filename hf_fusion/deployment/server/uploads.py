"""Media files in requests: each is read in another process, one after the other, within limits."""

import asyncio
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.datastructures import FormData, UploadFile

from hf_fusion.deployment.predict_media import read_apart
from hf_fusion.deployment.server.batching import QueueFullError
from hf_fusion.deployment.server.bodies import parse_json
from hf_fusion.media.sandbox import Sandbox
from hf_fusion.models.handler import RequestError
from hf_fusion.models.media_text import SUBTITLE_ENDINGS
from hf_fusion.models.processing_text import InputError
from hf_fusion.utils.extras import import_extra

FIELDS = ("media", "text", "parameters")
# Files that wait to be read, at most.
_MOST_WAITING = 16


class MediaUploads:
    """
    Reads the media files of requests as the clips that the model was trained on.

    Args:
        classify ([`FusionSentimentPipeline`]): a pipeline that reads media files.
        checkpoint (`str`): its folder or name, which the other process loads the processor from.
        timeout (`float`): seconds for each file.
        asr (`str`, *optional*): the speech recognition checkpoint for files without `text`.

    Raises:
        ImportError: if the libraries that read media are not installed.
    """

    def __init__(self, classify, checkpoint: str, timeout: float, asr: str | None = None):
        import_extra("av", "media")
        self.checkpoint, self.timeout = checkpoint, timeout
        self._options = {
            "asr": asr, "device": classify.media_device, "modalities": list(classify.model.config.modalities),
        }  # fmt: skip
        self._sandbox, self._waiting = Sandbox(timeout), 0
        self._pool = ThreadPoolExecutor(1, "media")

    def close(self) -> None:
        """Ends the other process."""
        self._sandbox.close()
        self._pool.shutdown(cancel_futures=True)

    def read_fields(self, form: FormData) -> tuple[UploadFile, str | None, Any]:
        """
        Reads the fields of a form.

        Returns:
            `tuple`: the file `media`, the `text` that is said in it (optional), and `parameters` (JSON, optional).

        Raises:
            RequestError: if the form has other fields.
        """
        unknown = [name for name in form if name not in FIELDS]
        if unknown:
            raise RequestError(f"There is no such name. Accepted are {', '.join(FIELDS)}.", unknown[0][:50])
        files, text = form.getlist("media"), form.get("text")
        if len(files) != 1 or not isinstance(files[0], UploadFile):
            raise RequestError("Expected one file (in curl: -F media=@talk.mp4).", "media")
        for name in FIELDS[1:]:
            if not isinstance(form.get(name, ""), str):
                raise RequestError("Expected a value, not a file.", name)
        if text is not None and text.strip().lower().endswith(SUBTITLE_ENDINGS):
            raise RequestError("Expected the words that are said, not the name of a file.", "text")
        return files[0], text or None, parse_json(form.get("parameters") or "{}", "parameters")

    async def read_file(self, file: UploadFile, text: str | None, language: str | None) -> Any:
        """
        Reads a media file.

        Args:
            file (`UploadFile`): the file.
            text (`str`, *optional*): what is said in it.
            language (`str`, *optional*): what is spoken, for speech recognition.

        Returns:
            [`MediaClip`], or a [`RequestError`] if it cannot be read.

        Raises:
            QueueFullError: if too many files wait.
        """
        if self._waiting >= _MOST_WAITING:
            raise QueueFullError(max(1, int(self.timeout)))
        options = {**self._options, "transcript": text, "language": language}
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._read_in_thread, file, options)
        finally:
            self._waiting -= 1

    def _read_in_thread(self, upload, options):
        descriptor, name = tempfile.mkstemp(prefix="hf_fusion-")
        try:
            with open(descriptor, "wb") as file:
                shutil.copyfileobj(upload.file, file)
            return read_apart(self._sandbox, name, self.checkpoint, options)
        except InputError as error:
            reason = error.reason.replace(name, upload.filename or "The file")
            return RequestError(reason, "media", "invalid_input")
        finally:
            os.unlink(name)
