"""The page: tabs for texts, clips, files and recordings, and the server behind it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_fusion.data.decoding import FILE_KINDS, TextFormat
from hf_fusion.deployment.demo.answers import answer_clip, answer_text, explain_answer
from hf_fusion.deployment.demo.checkpoints import DemoModel, load_models
from hf_fusion.deployment.demo.clips import load_demo_clips
from hf_fusion.deployment.demo.recordings import RecordingReader
from hf_fusion.deployment.demo.rendering import (
    render_answers,
    render_error,
    render_models,
    render_note,
    render_recording,
    render_table,
)
from hf_fusion.deployment.demo.tables import predict_table, text_columns, without_folders, write_table
from hf_fusion.deployment.demo.theme import make_theme, page_css
from hf_fusion.models.media_text import SUBTITLE_ENDINGS
from hf_fusion.models.processing_text import MEDIA_ENDINGS, InputError
from hf_fusion.utils.errors import DataError, FusionError
from hf_fusion.utils.extras import import_extra, missing_extra

EXAMPLES = (
    "The staff was friendly, but the room was not clean.",
    "Not a bad stay at all.",
    "We would never come back: the bed was awful and breakfast was cold.",
    "Excellent view, quiet room, perfect breakfast!",
)
MOST_CHARACTERS = 200_000
_KEPT_SECONDS = 3600  # uploads and tables, while the page is up
_NOTHING = '<p class="hf-empty hf-card">The answer appears here.</p>'
_WAITING = 32  # requests in the queue


@dataclass
class DemoSettings:
    """
    The settings of a page.

    Args:
        dataset: where the clips to choose from come from; see [`load_demo_clips`].
        dataset_options: options of its reader.
        asr, language: for recordings without subtitles; see [`FusionSentimentPipeline`].
        timeout: seconds for each recording.
        max_rows: rows of a file that are predicted, at most.
        max_file_size: megabytes of an upload, at most.
    """

    dataset: str | None = None
    dataset_options: dict[str, Any] = field(default_factory=dict)
    asr: str | None = None
    language: str | None = None
    timeout: float = 120.0
    max_rows: int = 1000
    max_file_size: int = 50

    def __post_init__(self):
        for name in ("timeout", "max_rows", "max_file_size"):
            if not getattr(self, name) > 0:
                raise DataError(f"`{name}` must be above 0, got {getattr(self, name)}.")


class DemoPage:
    """
    A page in the browser for one checkpoint, or for two side by side. What is uploaded lies in a folder of its own,
    which is deleted when the process ends.

    Args:
        models (`list[DemoModel]`): the checkpoints.
        settings ([`DemoSettings`], *optional*): the settings.

    Raises:
        MissingExtraError: if gradio is not installed.
        DataError: if the checkpoints cannot be compared, or the clips are not those of the checkpoint.

    Example:

    ```python
    from hf_fusion.deployment.demo.checkpoints import load_models
    from hf_fusion.deployment.demo.page import DemoPage

    with DemoPage(load_models(["runs/quickstart/dyfulm"])) as page:
        page.launch()  # http://127.0.0.1:7860, until Ctrl-C
    ```
    """

    def __init__(self, models: list[DemoModel], settings: DemoSettings | None = None):
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, and later
        self._gradio = import_extra("gradio", "demo")
        self.models, self.settings = models, settings or DemoSettings()
        self._config = models[0].config
        self._clips = load_demo_clips(models[0], self.settings.dataset, self.settings.dataset_options)
        self._recordings = RecordingReader(models, self.settings.timeout, self.settings.asr, self.settings.language)
        self._tables = TemporaryDirectory(prefix="tables_", dir=_upload_folder().name)
        self.blocks = self._build()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def launch(
        self,
        host: str | None = None,
        port: int | None = None,
        share: bool = False,
        mcp: bool = False,
        block: bool = True,
        on_start: Callable[[str, str | None], None] = lambda url, share_url: None,
    ) -> None:
        """
        Starts the server.

        Args:
            host (`str`, *optional*): the address; by default that of `GRADIO_SERVER_NAME`, or 127.0.0.1.
            port (`int`, *optional*): the port; by default the first free one from 7860 on.
            share (`bool`, *optional*, defaults to `False`): whether to make a public link through gradio's servers.
            mcp (`bool`, *optional*, defaults to `False`): whether to offer the answers as a tool by the Model Context
                Protocol, at `/gradio_api/mcp/`.
            block (`bool`, *optional*, defaults to `True`): whether to wait until the server is stopped.
            on_start (`Callable`, *optional*): called with the address, and with the public link if there is one.

        Raises:
            DataError: if the address or the port cannot be used.
            MissingExtraError: if `mcp` is set and its package is not installed.
        """
        if mcp:
            import_extra("mcp", "mcp")
        try:
            _, url, share_url = self.blocks.queue(max_size=_WAITING).launch(
                server_name=host, server_port=port, share=share, mcp_server=mcp, prevent_thread_lock=True, quiet=True,
                max_file_size=f"{self.settings.max_file_size}mb", ssr_mode=False, run_history=False, pwa=False,
                enable_monitoring=False, footer_links=[], theme=make_theme(), css=page_css(),
            )  # fmt: skip
        except OSError as error:
            raise DataError(f"{host or '127.0.0.1'}, port {port or 'from 7860 on'}: {error}") from error
        on_start(url, share_url)
        if block:
            self.blocks.block_thread()

    def close(self) -> None:
        """Stops the server, and deletes what was uploaded."""
        self.blocks.close(verbose=False)
        self._recordings.close()
        self._tables.cleanup()

    # --- layout ---

    def _build(self):
        gradio = self._gradio
        title = " and ".join(model.name for model in self.models)
        with gradio.Blocks(
            title=f"{title} - hf_fusion", analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
        ) as blocks:
            gradio.HTML(render_models(self.models))
            with gradio.Tabs():
                if self.models[0].reads_media:
                    self._add_recordings()
                if self._clips:
                    self._add_clips()
                elif "text" in self._config.modalities:
                    self._add_texts()
                self._add_files()
            gradio.HTML(
                '<p class="hf-note">Answers are guesses of a model. Texts and files stay on the machine that runs this '
                "page; uploads are deleted after an hour, and when the page ends.</p>"
            )
            if "text" in self._config.modalities:
                gradio.api(self.predict, api_name="predict")
        return blocks

    def _add_texts(self):
        gradio = self._gradio
        with gradio.Tab("Text"), gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                text = self._text_box("Text", "A review, or any other text")
                with gradio.Row():
                    clear, button = (
                        gradio.Button("Clear", min_width=80),
                        gradio.Button("Answer", variant="primary", min_width=80),
                    )
                examples = gradio.Column()
            answer = self._answer_column()
            with examples:
                gradio.Examples(
                    [[example] for example in EXAMPLES], text, answer, self._answer_text, cache_examples=False,
                    run_on_click=True, label="Examples", api_visibility="private",
                )  # fmt: skip
        self._on([button.click, text.submit], self._answer_text, text, answer)
        self._on([clear.click], lambda: ("", _NOTHING), None, [text, answer])

    def _add_clips(self):
        gradio = self._gradio
        with gradio.Tab("Clip"), gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                first = self._clips[0]
                clip = gradio.Dropdown(
                    [(clip.title, number) for number, clip in enumerate(self._clips)], value=0, label="Clip",
                    info="Of the test split. Type to search.",
                )  # fmt: skip
                facts = gradio.HTML(render_note(first.facts))
                text = self._text_box("Text of the clip", "None: the clip is answered without text")
                text.value, text.visible = first.modalities.get("text", ""), "text" in self._config.modalities
                chosen = self._modality_boxes()
                button = gradio.Button("Answer", variant="primary")
            answer = self._answer_column()
        self._on([clip.change], self._show_clip, clip, [text, facts])
        self._on([button.click, text.submit, chosen.change], self._answer_clip, [clip, text, chosen], answer)

    def _add_recordings(self):
        gradio = self._gradio
        with gradio.Tab("Recording"):
            if not find_spec("av"):
                gradio.HTML(render_error(missing_extra("av", "media")))
                return
            endings = [*(f".{ending}" for ending in MEDIA_ENDINGS), *SUBTITLE_ENDINGS]
            with gradio.Row():
                with gradio.Column(scale=2, min_width=300):
                    files = gradio.File(
                        label="Recording and subtitles (.srt, .vtt)", file_types=endings,
                        file_count="multiple",
                    )  # fmt: skip
                    window = gradio.Number(4, label="Seconds of each answer", minimum=0.5, maximum=600)
                    hop = gradio.Number(1, label="Seconds from one answer to the next", minimum=0.25, maximum=600)
                    chosen = self._modality_boxes()
                    button = gradio.Button("Answer", variant="primary")
                answer = self._answer_column()
        self._on([button.click], self._answer_recording, [files, window, hop, chosen], answer)

    def _add_files(self):
        gradio = self._gradio
        with gradio.Tab("File"), gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                file = gradio.File(label=f"File of rows, up to {self.settings.max_file_size} MB",
                                   file_types=list(FILE_KINDS))  # fmt: skip
                column = gradio.Dropdown(
                    ["text"], value="text", label="Column with the text", allow_custom_value=True,
                    info="csv, tsv, json, jsonl, txt, xlsx or parquet; encoding and delimiter are found.",
                )  # fmt: skip
                with gradio.Accordion("Format of a text file, if it is not found", open=False):
                    encoding = gradio.Textbox(label="Encoding", placeholder="cp1252")
                    delimiter = gradio.Textbox(label="Delimiter", placeholder="; or tab")
                button = gradio.Button("Answer", variant="primary")
                download = gradio.DownloadButton("Download the table (.csv)", visible=False)
            answer = self._answer_column()
        given = [file, encoding, delimiter]
        self._on([file.change, encoding.blur, delimiter.blur], self._show_columns, given, [column, answer, download])
        self._on([button.click], self._answer_file, [*given, column], [answer, download])

    def _text_box(self, label, placeholder):
        return self._gradio.Textbox(
            label=label, lines=5, max_lines=14, placeholder=placeholder, info="Shift + Enter answers.",
            max_length=MOST_CHARACTERS,
        )  # fmt: skip

    def _modality_boxes(self):
        names = list(self._config.modalities)
        return self._gradio.CheckboxGroup(names, value=names, label="Modalities that are switched on")

    def _answer_column(self):
        with self._gradio.Column(scale=3, min_width=300):
            return self._gradio.HTML(_NOTHING, js_on_load=_player())

    def _on(self, triggers, function, inputs, outputs):
        """Connects a function with what triggers it; the page alone calls it."""
        self._gradio.on(
            triggers, function, inputs, outputs, api_visibility="private", concurrency_limit=1, show_progress="minimal"
        )

    # --- answers ---

    def predict(self, text: str) -> list[dict[str, Any]]:
        """
        Classifies the sentiment of a text.

        Args:
            text: the text, such as a review.

        Returns:
            The name (`model`) and the answer (`label`, `score`, `coarse`, `intensity` ...) of each checkpoint.
        """
        try:
            return [{"model": model.name, **model(_checked(text))} for model in self.models]
        except (FusionError, InputError) as error:
            raise self._gradio.Error(getattr(error, "reason", str(error)), print_exception=False) from error

    def _answer_text(self, text):
        """The answers at once, and again with their explanations, which take longer."""
        answers = []

        def answer():
            answers.extend(answer_text(model, _checked(text)) for model in self.models)
            return render_answers(answers, text)

        yield _or_error(answer)
        explained = [explain_answer(model, text, given) for model, given in zip(self.models, answers, strict=False)]
        if any(answer.explanation for answer in explained):
            yield render_answers(explained, None if all(answer.explanation for answer in explained) else text)

    def _show_clip(self, number):
        clip = self._clips[number]
        return clip.modalities.get("text", ""), render_note(clip.facts)

    def _answer_clip(self, number, text, chosen):
        return _or_error(lambda: self._clip_answers(number, text, chosen))

    def _clip_answers(self, number, text, chosen):
        clip = dict(self._clips[number].modalities)
        if "text" in self._config.modalities:
            clip["text"] = _checked(text).strip() or None
        return render_answers([answer_clip(model, clip, chosen) for model in self.models])

    def _answer_recording(self, files, window, hop, chosen):
        def answer():
            if not files:
                raise DataError("Upload a video or recording first.")
            return render_recording(self._recordings.predict(files, window, hop, chosen))

        return _or_error(answer, files or ())

    def _show_columns(self, file, encoding, delimiter):
        """The columns of a file that was uploaded; an answer to the one before it is taken away."""
        gradio = self._gradio
        unchanged, hidden = gradio.Dropdown(), gradio.DownloadButton(visible=False)
        if file is None:
            return unchanged, _NOTHING, hidden
        try:
            names, likely = text_columns(file, _text_format(encoding, delimiter))
        except FusionError as error:
            return unchanged, render_error(without_folders(str(error), [file])), hidden
        return gradio.Dropdown(names, value=likely), _NOTHING, hidden

    def _answer_file(self, file, encoding, delimiter, column):
        hidden = self._gradio.DownloadButton(visible=False)
        if file is None:
            return render_error("Upload a file first."), hidden
        try:
            table = predict_table(
                self.models, file, str(column), self.settings.max_rows, _text_format(encoding, delimiter)
            )
            folder = Path(self._tables.name)
            for earlier in folder.iterdir():  # gradio has a copy of it, for an hour
                earlier.unlink()
            path = write_table(table, folder, file)
        except (FusionError, InputError) as error:
            return render_error(without_folders(str(error), [file])), hidden
        return render_table(table), self._gradio.DownloadButton(value=str(path), visible=True)


def launch_demo(checkpoints: list[str], settings: DemoSettings | None = None, **options) -> None:
    """
    Loads checkpoints and shows their page until it is stopped.

    Args:
        checkpoints (`list[str]`): one or two run folders or names on the Hub.
        settings ([`DemoSettings`], *optional*): the settings of the page.
        **options: of [`DemoPage.launch`].
    """
    with DemoPage(load_models(checkpoints), settings) as page:
        page.launch(**options)


def _checked(text):
    """A text that is not too long to be sent on; the box refuses those, but anybody can call the server."""
    if len(text or "") > MOST_CHARACTERS:
        raise DataError(f"The text has {len(text):,} characters; this page takes up to {MOST_CHARACTERS:,}.")
    return text or ""


@cache
def _upload_folder():
    """The folder of uploads. gradio has one for each process, and asks the environment for it at any time."""
    folder = TemporaryDirectory(prefix="hf_fusion_demo_")
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    return folder


def _text_format(encoding, delimiter):
    return TextFormat((encoding or "").strip() or None, (delimiter or "").strip() or None)


def _or_error(answer, files=()):
    """The HTML of an answer, or of the reason why there is none."""
    try:
        return answer()
    except (FusionError, InputError) as error:
        return render_error(without_folders(str(error), files))


def _player():
    return Path(__file__).with_name("player.js").read_text(encoding="utf-8")
