"""The web application: the answers of the pipeline, and errors that name what is wrong."""

import asyncio
import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asserts import assert_close
from conftest import AUDIO_SIZE, TEXTS, VISION_SIZE
from tiny_runs import LONGEST_SECONDS

from hf_fusion.models.handler import PARAMETERS, EndpointHandler, RequestError

pytest.importorskip("starlette")
from starlette.requests import Request
from starlette.testclient import TestClient

from hf_fusion.deployment.server.app import Server
from hf_fusion.deployment.server.batching import QueueFullError
from hf_fusion.deployment.server.bodies import BodyLimits, read_json
from hf_fusion.deployment.server.options import ServerOptions
from hf_fusion.utils.errors import DataError

LIMITS = {"max_inputs": 40, "max_text_length": 2000, "max_frames": 50, "max_body_mb": 0.1}
PARAMETER_SETS = [
    {}, {"top_k": None}, {"top_k": 2}, {"consistent": False}, {"calibration": False}, {"abstain_below": 0.9},
    {"aspects": {"staff": ["reception"], "bed": []}}, {"long_texts": "cut", "return_truncated": True},
    {"truncation": True}, {"explain": True},
]  # fmt: skip


def make_server(classify, api_key=None, **options):
    options = ServerOptions(**{**LIMITS, **options})
    return Server(EndpointHandler(classify=classify, **options.handler_limits()), options, "acme/model", None, api_key)


@pytest.fixture(scope="module")
def reviews(review_classifier):
    with TestClient(make_server(review_classifier).app) as client:
        yield client


@pytest.fixture(scope="module")
def clips_(clip_classifier):
    with TestClient(make_server(clip_classifier).app) as client:
        yield client


def ask(client, inputs, parameters=None):
    body = {"inputs": inputs} if parameters is None else {"inputs": inputs, "parameters": parameters}
    return client.post("/predict", json=body)


def error_of(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"type", "message", "field"} and error["message"]
    return error


def as_npy(array, dtype=np.float32):
    file = io.BytesIO()
    np.save(file, np.asarray(array, dtype=dtype))
    return base64.b64encode(file.getvalue()).decode()


async def read(bodies, request):
    async with bodies.limited(request, "application/json") as limited:
        return await read_json(limited, lambda data: data)


class TestAnswers:
    @pytest.mark.parametrize("parameters", PARAMETER_SETS, ids=str)
    def test_are_the_pipelines(self, reviews, review_classifier, parameters):
        texts = ["The staff ignored us. The bed was good.", "The room was not clean. " * 30] if parameters else TEXTS
        response = ask(reviews, texts[:1] if "explain" in parameters else texts, parameters)
        assert response.status_code == 200, response.text
        expected = review_classifier(texts[:1] if "explain" in parameters else texts, **parameters)
        assert_close(response.json(), expected, atol=1e-5)

    def test_of_a_single_input_are_no_list(self, reviews, review_classifier):
        assert_close(ask(reviews, "The bed was good.").json(), review_classifier("The bed was good."), atol=1e-5)
        assert_close(ask(reviews, {"text": "Fine."}).json(), review_classifier("Fine."), atol=1e-5)
        assert ask(reviews, []).json() == []

    def test_of_clips(self, clips_, clip_classifier):
        rng = np.random.default_rng(0)
        audio, vision = (
            rng.normal(size=(n, size)).astype(np.float32) for n, size in ((5, AUDIO_SIZE), (7, VISION_SIZE))
        )
        clips = [{"text": "Good bed.", "audio": audio, "vision": vision}, {"audio": audio}, {"text": "bad"}]
        expected = clip_classifier(clips)
        for convert in (np.ndarray.tolist, as_npy, lambda frames: as_npy(frames, ">f4")):
            sent = [{name: convert(v) if name != "text" else v for name, v in clip.items()} for clip in clips]
            sent[1]["text"] = None
            assert_close(ask(clips_, sent).json(), expected, atol=1e-5)

    def test_of_many_clients_are_not_swapped(self, reviews, review_classifier):
        texts = [
            f"The {word} was {end}" for word in ("room", "bed", "bar") for end in ("good", "bad", "not clean at all")
        ]
        expected = review_classifier(texts)
        with ThreadPoolExecutor(9) as threads:
            found = list(threads.map(lambda i: ask(reviews, texts[i % 9]).json(), range(45)))
        for i, answer in enumerate(found):
            assert_close(answer, expected[i % 9], atol=1e-5)

    def test_a_bad_input_of_several_fails_alone(self, reviews, review_classifier):
        inputs = ["Good.", "", {"text": 5}, 7, {"texts": "x"}, "x" * 2001, "talk.mp4", {"text": "Good."}]
        answers = ask(reviews, inputs).json()
        assert_close([answers[0], answers[-1]], review_classifier(["Good.", "Good."]), atol=1e-5)
        errors = [answer["error"] for answer in answers[1:-1]]
        assert [error["field"] for error in errors] == [
            "inputs[1]", "inputs[2].text", "inputs[3]", "inputs[4].texts", "inputs[5]", "inputs[6]"
        ]  # fmt: skip
        assert "empty" in errors[0]["message"] and "2,000 characters" in errors[4]["message"]
        raised = error_of(ask(reviews, ["Good.", ""], {"on_error": "raise"}), 422)
        assert raised["field"] == "inputs[1]" and raised["type"] == "invalid_input"

    def test_a_single_bad_input_is_the_requests_error(self, reviews):
        assert error_of(ask(reviews, ""), 422)["field"] == "inputs"
        assert ask(reviews, "", {"on_error": "return"}).json()["error"]["field"] == "inputs"


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ('{"inputs": "a", "inputs": "b"}', None), ('{"inputs": "a", "parameters": {"top_k": 1, "top_k": 2}}', None),
            ("", None), ("{", None), ("[" * 100_000, None), ('{"inputs": NaN}', None), ("[]", None), ('"x"', None),
            ('{"inputs": "a", "parameters": {"abstain_below": Infinity}}', None), (b"\xff\xfe\xfa", None),
            ('{"inputs": ' + "9" * 5000 + "}", None),
            ("{}", "inputs"), ('{"inputs": null}', "inputs"), ('{"inputs": "a", "input": 1}', "input"),
            ('{"inputs": "a", "parameters": []}', "parameters"),
            ('{"inputs": "a", "parameters": {"top": 1}}', "parameters.top"),
            ('{"inputs": "a", "parameters": {"batch_size": 1}}', "parameters.batch_size"),
            ('{"inputs": "a", "parameters": {"asr": "acme/x"}}', "parameters.asr"),
            ('{"inputs": "a", "parameters": {"top_k": "2"}}', "parameters.top_k"),
            ('{"inputs": "a", "parameters": {"top_k": true}}', "parameters.top_k"),
            ('{"inputs": "a", "parameters": {"top_k": 0}}', "parameters.top_k"),
            ('{"inputs": "a", "parameters": {"top_k": 1e300}}', "parameters.top_k"),
            ('{"inputs": "a", "parameters": {"explain": "false"}}', "parameters.explain"),
            ('{"inputs": "a", "parameters": {"abstain_below": 1e999}}', "parameters.abstain_below"),
            ('{"inputs": "a", "parameters": {"abstain_below": 2}}', "parameters.abstain_below"),
            ('{"inputs": "a", "parameters": {"aspects": [1]}}', "parameters.aspects"),
            ('{"inputs": "a", "parameters": {"top_k": 2, "aspects": ["bed"]}}', "parameters.aspects"),
            ('{"inputs": "a", "parameters": {"long_texts": "all"}}', "parameters.long_texts"),
            ('{"inputs": "a", "parameters": {"on_error": "hide"}}', "parameters.on_error"),
            ('{"inputs": "a", "parameters": {"\\ud800": 1}}', "parameters.\ud800"),
        ],
        ids=lambda value: str(value)[:60],
    )  # fmt: skip
    def test_bad_requests_name_the_field(self, reviews, body, field):
        response = reviews.post("/predict", content=body, headers={"content-type": "application/json"})
        assert error_of(response, 400)["field"] == field

    @pytest.mark.parametrize(
        ("frames", "place", "words"),
        [
            ([[1.0] * AUDIO_SIZE, [1.0]], "[1]", "3 as in the first"), ([1.0, 2.0], "[0]", "list of numbers"),
            ([["1.5"] * AUDIO_SIZE], "[0]", "Expected numbers, got '1.5'"), ([[True] * AUDIO_SIZE], "[0]", "got true"),
            ([[None] * AUDIO_SIZE], "[0]", "got null"), ([[1e39] * AUDIO_SIZE], "", "beyond the range"),
            ([[10**400] * AUDIO_SIZE], "", "beyond the range"), (5, "", "list of frames"), ({}, "", "list of frames"),
            ([[0.0] * AUDIO_SIZE] * 51, "", "At most 50 frames"), ("!!", "", "not the base64"),
            (base64.b64encode(b"\x93NUMPY").decode(), "", "not the base64"),
            (as_npy(np.zeros((2, AUDIO_SIZE)), "<f8"), "", "Expected float32, got float64"),
            (as_npy(np.zeros(4)), "", "shape (frames, features)"), (as_npy(np.zeros((51, 1))), "", "At most 50"),
            (as_npy(np.zeros((3, AUDIO_SIZE)))[:-8], "", "another size than its shape"),
        ],
        ids=lambda value: str(value)[:40],
    )  # fmt: skip
    def test_bad_frames_name_the_field(self, clips_, frames, place, words):
        status = 413 if "At most" in words else 422
        error = error_of(ask(clips_, {"text": "Good.", "audio": frames}), status)
        assert error["field"] == f"inputs.audio{place}" and words in error["message"]

    def test_frames_that_the_model_does_not_take(self, clips_):
        assert error_of(ask(clips_, {"audio": [[1.0]]}), 422)["field"] == "inputs"

    def test_an_array_of_objects_is_not_unpickled(self, clips_):
        file = io.BytesIO()
        np.save(file, np.array([[print]], dtype=object), allow_pickle=True)
        npy = base64.b64encode(file.getvalue()).decode()
        assert "Expected float32, got object" in error_of(ask(clips_, {"audio": npy}), 422)["message"]

    @pytest.mark.parametrize(
        "header",
        ["(" * 5000, "-" * 9000 + "1\n", "{[]: 1}\n", "{'a': (1,\n", "  {\n      1\n   2\n",
         "{'descr': (), 'fortran_order': False, 'shape': (1, 3), }\n",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }\n"],
        ids=lambda header: header[:20],
    )  # fmt: skip
    def test_a_hostile_header_fails_alone(self, clips_, header):
        npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\x00" * 12
        good, bad = ask(clips_, ["Good.", {"audio": base64.b64encode(npy).decode()}]).json()
        assert good["label"] and bad["error"]["field"] == "inputs[1].audio"

    @pytest.mark.parametrize("shape", ["(49, 10000000000000)", "(-1, -4)", "(1, 9" + "9" * 40 + ")"])
    def test_declared_sizes_are_not_believed(self, clips_, shape):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\x00" * 16
        error = error_of(ask(clips_, {"audio": base64.b64encode(npy).decode()}), 422)
        assert error["field"] == "inputs.audio"

    def test_options_of_other_models(self, clips_):
        assert error_of(ask(clips_, "Good.", {"top_k": 2}), 400)["field"] == "parameters.top_k"
        assert error_of(ask(clips_, "Good.", {"explain": True}), 400)["field"] == "parameters.explain"

    def test_too_many_inputs(self, reviews):
        assert error_of(ask(reviews, ["a"] * 41), 413)["field"] == "inputs"
        assert "count as 64" in error_of(ask(reviews, ["a"] * 2, {"explain": True}), 413)["message"]
        assert "count as 44" in error_of(ask(reviews, ["a"] * 4, {"aspects": list("0123456789")}), 413)["message"]
        words = {"bed": ["x"] * 100}
        assert error_of(ask(reviews, "a", {"aspects": words}), 413)["field"] == "parameters.aspects"

    def test_large_bodies(self, reviews):
        """Also without a length, while they arrive."""
        error_of(reviews.post("/predict", json={"inputs": "a" * 200_000}), 413)

        def chunks():
            for _ in range(200):
                yield b" " * 1000

        headers = {"content-type": "application/json"}
        response = reviews.post("/predict", content=chunks(), headers=headers)
        assert error_of(response, 413)["type"] == "too_large" and response.headers["connection"] == "close"

    def test_no_more_is_held_of_a_body_than_its_limit(self):
        """However long it is: the rest is dropped, and of an endless one not even read."""
        bodies, sent = BodyLimits(1000, 1000), []

        async def receive():
            sent.append(max(bodies.held.values()))
            return {"type": "http.request", "body": b" " * 100, "more_body": True}

        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        with pytest.raises(RequestError, match="larger than 1,000 bytes"):
            asyncio.run(read(bodies, request))
        assert len(sent) == 51 and max(sent) <= 1100 and set(bodies.held.values()) == {0}

    def test_bodies_together_have_a_limit(self):
        bodies = BodyLimits(1000, 1000)

        async def scenario():
            ended = asyncio.Event()

            async def receive(parts):
                if parts:
                    return {"type": "http.request", "body": parts.pop(), "more_body": True}
                await ended.wait()
                return {"type": "http.request", "body": b"", "more_body": False}

            def begin():
                parts = [b" " * 900]
                return read(bodies, Request({"type": "http", "method": "POST", "headers": []}, lambda: receive(parts)))

            held = [asyncio.ensure_future(begin()) for _ in range(17)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await begin()
            ended.set()
            results = await asyncio.gather(*held, return_exceptions=True)
            assert all(isinstance(one, RequestError) for one in results) and bodies.held["application/json"] == 0

        asyncio.run(scenario())

    def test_other_types_and_paths(self, reviews):
        assert "application/json" in error_of(reviews.post("/predict", content="{}"), 415)["message"]
        assert error_of(reviews.post("/predict", data={"inputs": "a"}), 415)
        assert "no media files" in error_of(reviews.post("/predict", files={"media": b"x"}), 415)["message"]
        assert (
            error_of(reviews.post("/predict/"), 404)
            and error_of(reviews.get("/nothing"), 404)
            and error_of(reviews.get("/predict"), 405)
        )

    def test_paths_on_the_server_are_not_read(self, reviews):
        assert error_of(ask(reviews, {"media": "/etc/passwd"}), 422)["field"] == "inputs.media"


class TestRoutes:
    def test_health_and_readiness(self, reviews):
        assert reviews.get("/health").json() == {"status": "ok"} and reviews.get("/ready").json() == {"status": "ready"}

    def test_info(self, reviews, clips_, review_classifier):
        info = reviews.get("/info").json()
        assert info["model"] == "acme/model" and info["revision"] is None and info["runtime"] == "torch"
        assert info["labels"] == list(review_classifier.model.config.id2label.values()) and info["version"]
        assert info["coarse_labels"] and info["limits"]["inputs"] == 40 and not info["media_files"]
        other = clips_.get("/info").json()
        assert other["score_range"] == [-3, 3] and other["modalities"] == ["text", "audio", "vision"]
        assert other["features"] == {"audio": 3, "vision": 5} and info["features"] == {}

    def test_a_folder_is_shown_by_its_name_alone(self, review_classifier, tmp_path):
        assert Server(EndpointHandler(classify=review_classifier), ServerOptions(), str(tmp_path)).name == tmp_path.name

    def test_metrics(self, reviews):
        ask(reviews, "Good.")
        ask(reviews, "")
        response = reviews.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        counts = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in response.text.splitlines()
                  if not line.startswith("#")}  # fmt: skip
        assert counts['hf_fusion_requests_total{route="/predict",status="200"}'] >= 1
        assert counts['hf_fusion_requests_total{route="/predict",status="422"}'] >= 1
        assert counts["hf_fusion_batch_inputs_count"] >= 1 and counts["hf_fusion_request_seconds_count"] >= 1

    def test_openapi_describes_all_routes_and_parameters(self, reviews):
        description = reviews.get("/openapi.json").json()
        assert set(description["paths"]) == {"/predict", "/health", "/ready", "/info", "/metrics", "/openapi.json"}
        schemas = description["components"]["schemas"]
        assert set(schemas["Parameters"]["properties"]) == set(PARAMETERS)
        text = json.dumps(description)
        names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
        assert names <= set(schemas)

    @pytest.mark.parametrize(
        ("inputs", "parameters"),
        [("Good.", {}), (["Good.", ""], {}), ([], {}), ("", {"on_error": "return"}), (["Good.", ""], {"top_k": 2}),
         ("Good bed.", {"aspects": ["bed"], "abstain_below": 1.0, "return_truncated": True})],
    )  # fmt: skip
    def test_openapi_describes_answers(self, reviews, inputs, parameters):
        jsonschema = pytest.importorskip("jsonschema")
        schema = {**reviews.get("/openapi.json").json(), "$ref": "#/components/schemas/Answers"}
        jsonschema.Draft202012Validator(schema).validate(ask(reviews, inputs, parameters).json())

    def test_no_other_page_may_read(self, reviews):
        headers = reviews.get("/info", headers={"origin": "http://other.example"}).headers
        assert not [name for name in headers if name.startswith("access-control")]

    def test_a_key(self, review_classifier, caplog):
        with TestClient(make_server(review_classifier, api_key="secret-1").app) as client:
            assert client.get("/health").status_code == client.get("/ready").status_code == 200
            for headers in ({}, {"authorization": "Bearer secret-2"}, {"authorization": "secret-1"},
                            {"authorization": b"Bearer secret-1\xe9"}):  # fmt: skip
                assert error_of(client.get("/info", headers=headers), 401)
                response = client.post("/predict", json={"inputs": "a"}, headers=headers)
                assert error_of(response, 401) and response.headers["www-authenticate"] == "Bearer"
            for host in ("x/health?", "x/health#"):  # would change the path of the address
                assert error_of(client.get("/info", headers={"host": host}), 401)
            headers = {"authorization": "Bearer secret-1"}
            assert client.post("/predict", json={"inputs": "Good."}, headers=headers).status_code == 200
        assert "secret" not in caplog.text


class TestTrouble:
    def test_a_bug_is_a_500_without_its_text(self, review_classifier, monkeypatch, caplog):
        server = make_server(review_classifier)

        def fail(inputs, parameters):
            raise RuntimeError("a secret of the server")

        server.handler.answer = fail
        with TestClient(server.app) as client:
            error = error_of(ask(client, "Good."), 500)
        assert "secret" not in error["message"] and "a secret of the server" in caplog.text

    def test_a_full_queue_is_told_until_it_has_room(self, review_classifier):
        server = make_server(review_classifier, max_queue=4)
        with TestClient(server.app) as client:
            server.batcher.length = 4  # as if others waited
            refused = ask(client, "Good.")
            assert error_of(refused, 503)["type"] == "overloaded" and int(refused.headers["retry-after"]) >= 1
            assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
            server.batcher.length = 0
            assert client.get("/ready").status_code == 200 and ask(client, "Good.").status_code == 200

    def test_a_waiting_request_counts_among_the_bodies(self, review_classifier):
        server, released = make_server(review_classifier), threading.Event()
        answer = server.handler.answer
        server.handler.answer = lambda *args: answer(*args) if released.wait(600) else None
        held = server.bodies.held
        with TestClient(server.app) as client, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(ask, client, "Good.")
            end = time.monotonic() + LONGEST_SECONDS
            while server.batcher.length or not held["application/json"]:
                assert time.monotonic() < end
            released.set()
            assert waiting.result().status_code == 200 and held["application/json"] == 0

    def test_answers_that_are_not_finite_fail_alone(self, review_classifier):
        server = make_server(review_classifier)
        server.handler.answer = lambda inputs, parameters: [{"label": "a", "score": value} for value in inputs]
        server.handler.check_text = lambda text, field: float(text)
        with TestClient(server.app) as client:
            good, bad = ask(client, ["1", "nan"]).json()
            assert good["score"] == 1 and bad["error"]["field"] == "inputs[1]"
            assert "no finite answer" in error_of(ask(client, "nan"), 422)["message"]

    def test_a_late_answer_is_a_timeout(self, review_classifier):
        server, released = make_server(review_classifier, timeout=0.5), threading.Event()
        answer = server.handler.answer
        server.handler.answer = lambda *args: answer(*args) if released.wait(600) else None
        with TestClient(server.app) as client:
            assert error_of(ask(client, "Good."), 504)["type"] == "timeout"
            released.set()
            end = time.monotonic() + LONGEST_SECONDS
            while ask(client, "Good.").status_code != 200:
                assert time.monotonic() < end

    @pytest.mark.parametrize("field", ["max_batch_size", "timeout", "max_body_mb"])
    def test_limits_are_checked(self, field):
        with pytest.raises(DataError, match=f"`{field}` must be above 0"):
            ServerOptions(**{field: 0})
        assert ServerOptions(max_wait_ms=0)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, "2"])
    def test_limits_are_numbers_of_bytes(self, value):
        with pytest.raises(DataError, match="`max_body_mb` must be above 0"):
            ServerOptions(max_body_mb=value)
