"""Media files in requests: the pipeline's answers, read in another process; and forms that are not right."""

import json

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


def test_info_and_description_name_media(client):
    assert client.get("/info").json()["media_files"]
    description = client.get("/openapi.json").json()
    assert "multipart/form-data" in description["paths"]["/predict"]["post"]["requestBody"]["content"]
