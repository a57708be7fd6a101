"""Media files in requests: the pipeline's answers, read in another process; and forms that are not right."""

import asyncio
import io
import json
import tempfile
from types import SimpleNamespace

import pytest
from asserts import assert_close

from hf_fusion.models.handler import EndpointHandler

pytest.importorskip("av")
pytest.importorskip("starlette")
from media_files import Sound, harmonic_sound, write_media
from starlette.testclient import TestClient

from hf_fusion.deployment.server.app import Server
from hf_fusion.deployment.server.options import ServerOptions
from hf_fusion.deployment.server.uploads import MediaUploads


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_media(tmp_path_factory.mktemp("sound") / "talk.wav", Sound(harmonic_sound(3.0)))


@pytest.fixture(scope="module")
def client(media_pipeline, media_checkpoint):
    options = ServerOptions(max_inputs=10, max_text_length=200, max_media_mb=1, media_timeout=900)
    uploads = MediaUploads(media_pipeline, str(media_checkpoint), options.media_timeout)
    handler = EndpointHandler(classify=media_pipeline, **options.handler_limits())
    with TestClient(Server(handler, options, "acme/model", uploads).app) as client:
        yield client


def send(client, content, **fields):
    return client.post("/predict", files={"media": ("talk.wav", content)}, data=fields)


def error_of(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


def test_answers_are_the_pipelines(client, media_pipeline, sound):
    with open(sound, "rb") as file:
        content = file.read()
    inputs = {"media": sound, "text": "The bed was good."}
    assert_close(send(client, content, text=inputs["text"]).json(), media_pipeline(inputs))
    found = send(client, content, parameters=json.dumps({"window": 1.0, "return_truncated": True})).json()
    expected = media_pipeline({"media": sound}, window=1.0, return_truncated=True)
    assert len(found) == 3
    assert_close(found, expected)
    many = error_of(send(client, content, parameters=json.dumps({"window": 1.0, "hop": 0.1})), 413)
    assert many["field"] == "parameters.window" and "At most 10 windows" in many["message"]


def test_a_file_that_cannot_be_read_is_named_as_it_was_sent(client):
    error = error_of(send(client, b"no media at all"), 422)
    assert (
        error["field"] == "media" and error["message"].startswith("talk.wav") and "hf_fusion-" not in error["message"]
    )


def test_forms_that_are_not_right(client):
    assert error_of(client.post("/predict", files={"other": b"x"}), 400)["field"] == "other"
    assert error_of(client.post("/predict", files={"text": b"x"}), 400)["field"] == "media"
    assert error_of(send(client, b"x", parameters="{"), 400)["field"] == "parameters"
    assert error_of(send(client, b"x", parameters='{"window": "all"}'), 400)["field"] == "parameters.window"
    assert error_of(send(client, b"x", parameters='{"asr": "acme/x"}'), 400)["field"] == "parameters.asr"
    assert error_of(send(client, b"x", text="x" * 201), 413)["field"] == "text"
    assert error_of(send(client, b"x" * 2_000_000), 413)["type"] == "too_large"


def test_a_transcript_is_no_file_of_the_server(client, tmp_path):
    (tmp_path / "secret.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsecret\n")
    assert error_of(send(client, b"x", text=str(tmp_path / "secret.srt")), 400)["field"] == "text"


def slow_server(classify, checkpoint, seconds):
    """A server whose files are never read."""
    options = ServerOptions(timeout=seconds / 2, media_timeout=seconds / 2)
    uploads = MediaUploads(classify, str(checkpoint), options.media_timeout)
    uploads.read_file = lambda *_: asyncio.Event().wait()
    return Server(EndpointHandler(classify=classify), options, "acme/model", uploads)


def test_a_file_that_takes_too_long_is_not_the_clients_fault(media_pipeline, media_checkpoint):
    with TestClient(slow_server(media_pipeline, media_checkpoint, 1.0).app) as client:
        assert error_of(send(client, b"x"), 504)["type"] == "timeout"


def test_a_client_that_leaves_while_its_file_waits_is_noticed(media_pipeline, media_checkpoint):
    server = slow_server(media_pipeline, media_checkpoint, 3600)
    body = b'--x\r\nContent-Disposition: form-data; name="media"; filename="../\xff/talk.wav"\r\n\r\nx\r\n--x--\r\n'
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "root_path": "", "query_string": b"",
             "headers": headers, "http_version": "1.1", "scheme": "http"}  # fmt: skip
    messages, sent = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}], []

    async def receive():
        return messages.pop(0)

    async def note(message):
        sent.append(message)

    async def scenario():
        async with server.app.router.lifespan_context(server.app):
            await asyncio.wait_for(server.app(scope, receive, note), 60)

    asyncio.run(scenario())
    assert sent[0]["status"] == 499 and server.bodies.held["multipart/form-data"] == 0


def test_no_copy_of_a_file_is_left(media_pipeline, media_checkpoint, tmp_path, monkeypatch):
    """Also where copying fails, as with a full disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    upload = SimpleNamespace(file=io.BytesIO(), filename="talk.wav")
    upload.file.close()
    with pytest.raises(ValueError, match="closed"):
        MediaUploads(media_pipeline, str(media_checkpoint), 10.0)._read_in_thread(upload, {})
    assert not list(tmp_path.iterdir())


def test_info_and_description_name_media(client):
    assert client.get("/info").json()["media_files"]
    description = client.get("/openapi.json").json()
    assert "multipart/form-data" in description["paths"]["/predict"]["post"]["requestBody"]["content"]
