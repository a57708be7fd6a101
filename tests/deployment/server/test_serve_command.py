"""`hf-fusion serve` as a process: a stranger's use of it, signals, clients that go away, and no torch."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asserts import assert_close
from conftest import TEXTS
from tiny_runs import ENVIRONMENT, LONGEST_SECONDS, ROOT, Script, script_here

from hf_fusion.models.handler import EndpointHandler

pytest.importorskip("uvicorn")
TestClient = pytest.importorskip("starlette.testclient").TestClient
LONG = "The room was not clean, but the staff was wonderful. " * 40
# Blocks torch and all that an image with onnxruntime need not have.
WITHOUT_TORCH = """
import sys
for name in "torch accelerate datasets evaluate matplotlib onnx pyarrow rich scipy sklearn pandas".split():
    sys.modules[name] = None
from hf_fusion.cli.main import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@contextlib.contextmanager
def served(*words):
    """A server on a free port, in a process that has the libraries already; gives the process and the port."""
    script = Script("serve", *words, "--port", "0")
    try:
        output = Path(script.streams.name, "stdout")
        wait_for(lambda: not script.process.is_alive() or (output.exists() and output.read_text()))
        yield script, port_in(output.read_text())
    finally:
        script.process.kill()


def port_in(line):
    assert line.startswith("Serving at http://127.0.0.1:"), line
    return int(line.split()[2].rpartition(":")[2])


def stop(script):
    os.kill(script.process.pid, signal.SIGTERM)
    return script.join()


def ask(port, inputs=None, path="/predict", **parameters):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_SECONDS)
    with contextlib.closing(connection):
        if inputs is None:
            connection.request("GET", path)
        else:
            body = json.dumps({"inputs": inputs, "parameters": parameters})
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read().decode()
        return response.status, json.loads(content) if content.startswith(("{", "[")) else content


def metric(port, name):
    lines = ask(port, path="/metrics")[1].splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def wait_for(condition):
    end = time.monotonic() + LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_signals_cancellation_and_answers_under_load(review_checkpoint, review_classifier):
    expected = {text: review_classifier(text) for text in (*TEXTS, LONG)}
    with served(review_checkpoint, "--max_batch_size", 4, "--timeout", 900) as (script, port):
        assert ask(port, path="/ready") == (200, {"status": "ready"})
        assert ask(port, path="/info")[1]["model"] == review_checkpoint.name
        status, answers = ask(port, [*TEXTS, LONG])
        assert status == 200
        assert_close(answers, list(expected.values()))

        # a client that goes away while its request waits for others
        with ThreadPoolExecutor(8) as threads:
            busy = [threads.submit(ask, port, [LONG] * 20, return_truncated=True) for _ in range(2)]
            wait_for(lambda: metric(port, "hf_fusion_queue_inputs") > 0 or all(one.done() for one in busy))
            client = socket.create_connection(("127.0.0.1", port))
            body = json.dumps({"inputs": "Good."}).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            client.sendall(head.encode() + b"\r\n\r\n" + body)
            client.close()
            gone = 'hf_fusion_requests_total{route="/predict",status="499"}'
            wait_for(lambda: metric(port, gone) == 1)
            assert [one.result()[0] for one in busy] == [200, 200]
        assert metric(port, "hf_fusion_queue_inputs") == 0

        # SIGTERM under load: what was accepted is answered, then the status is 0
        with ThreadPoolExecutor(12) as threads:
            late = [threads.submit(ask, port, text) for text in [LONG, *TEXTS] * 2]
            wait_for(lambda: metric(port, "hf_fusion_request_seconds_count") >= 4)
            os.kill(script.process.pid, signal.SIGTERM)
            for text, answer in zip([LONG, *TEXTS] * 2, late, strict=True):
                with contextlib.suppress(ConnectionError, http.client.HTTPException):  # had not been accepted
                    status, found = answer.result()
                    assert status == 200
                    assert_close(found, expected[text])
        ended = script.join()
        assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
        with pytest.raises(ConnectionError):
            ask(port, "Good.")


def test_a_client_that_takes_no_answers_holds_up_no_end(review_checkpoint):
    flags = ("--timeout", 1, "--media_timeout", 1)
    with served(review_checkpoint, *flags) as (script, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        os.kill(script.process.pid, signal.SIGTERM)
        assert script.join().returncode == 0


def test_an_export_needs_no_torch(exported_reviews):
    classify, folder = exported_reviews
    command = [sys.executable, "-c", WITHOUT_TORCH, folder, "--port", "0"]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            port = port_in(process.stdout.readline())
            status, answers = ask(port, [*TEXTS, LONG], return_truncated=True)
            assert status == 200
            assert_close(answers, classify([*TEXTS, LONG], return_truncated=True), atol=1e-4)
            assert ask(port, path="/info")[1]["runtime"] == "onnxruntime"
            assert ask(port, "Good.", explain=True)[1]["error"]["field"] == "parameters.explain"
            assert ask(port, "Good.", truncation=True)[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_SECONDS) == 0
        finally:
            process.kill()


@pytest.fixture
def serve(monkeypatch):
    return script_here("serve", monkeypatch)


class TestErrors:
    def test_no_such_checkpoint(self, serve, capsys):
        assert serve("no/such/folder/here") == 2
        assert capsys.readouterr().err.startswith("Loading no/such/folder/here\nhf-fusion serve: ")

    def test_a_port_that_is_taken(self, serve, capsys, review_checkpoint):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert serve(review_checkpoint, "--port", port) == 2
        assert f"127.0.0.1:{port} cannot be used" in capsys.readouterr().err

    def test_an_export_has_no_choice_of_type_or_device(self, serve, capsys, tmp_path):
        (tmp_path / "onnx_fusion.json").write_text("{}")
        for flag in (("--dtype", "bfloat16"), ("--device", "cpu")):
            assert serve(tmp_path, *flag) == 2
            assert "--device and --dtype are for checkpoints" in capsys.readouterr().err

    def test_a_key_that_is_not_set(self, serve, capsys, monkeypatch):
        monkeypatch.setenv("EMPTY_KEY", " ")
        assert serve("runs/x", "--api_key_env", "EMPTY_KEY") == 2
        assert "--api_key_env EMPTY_KEY: the environment has no such variable" in capsys.readouterr().err

    def test_an_address_for_everyone_without_a_key(self, serve, capsys):
        assert serve("no/such/folder/here", "--host", "0.0.0.0") == 2
        assert "set --api_key_env" in capsys.readouterr().err

    @pytest.fixture(autouse=True)
    def _signals_stay(self):
        before = signal.getsignal(signal.SIGTERM)
        yield
        signal.signal(signal.SIGTERM, before)


def test_the_thread_that_runs_the_model_has_loaded_it(serve, monkeypatch, review_classifier):
    loading, running = [], []

    class Handler(EndpointHandler):
        def answer(self, inputs, parameters):
            running.append(threading.get_ident())
            return super().answer(inputs, parameters)

    def load_handler(args, options):
        loading.append(threading.get_ident())
        return Handler(classify=review_classifier), None

    def run_server(app, listener, options):
        with TestClient(app) as client:
            assert client.post("/predict", json={"inputs": "Good."}).status_code == 200

    monkeypatch.setattr(serve.module, "load_handler", load_handler)
    monkeypatch.setattr("hf_fusion.deployment.server.run.run_server", run_server)
    monkeypatch.setattr("hf_fusion.deployment.server.run.exit_on_sigterm", lambda: None)
    serve("runs/x", "--port", 0)
    assert loading == running and loading != [threading.get_ident()]


def test_defaults_are_those_of_the_library(serve):
    from hf_fusion.deployment.server.options import ServerOptions

    assert {name: default for name, (_, default, _) in serve.module.LIMITS.items()} == vars(ServerOptions())


@pytest.mark.nightly
def test_ten_minutes_of_load(review_checkpoint, review_classifier):
    """No answer is lost or wrong, and memory does not grow."""
    texts = [f"The {a} was {b} {c}." for a in ("room", "bed", "bar") for b in ("not", "very") for c in ("good", "bad")]
    expected = dict(zip(texts, review_classifier(texts), strict=True))
    wrong, counts, memory = [], [0] * 16, []
    with served(review_checkpoint) as (script, port):
        end = time.monotonic() + 600

        def load(number):
            while time.monotonic() < end:
                text = texts[(counts[number] * 7 + number) % len(texts)]
                status, answer = ask(port, text)
                counts[number] += 1
                if status != 200 or abs(answer["score"] - expected[text]["score"]) > 1e-5:
                    wrong.append((text, status, answer))

        threads = [threading.Thread(target=load, args=(number,)) for number in range(len(counts))]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(5)
            with open(f"/proc/{script.process.pid}/status", encoding="ascii") as file:
                memory.append(next(int(line.split()[1]) for line in file if line.startswith("VmRSS")))
        assert not wrong and min(counts) > 10
        settled = memory[len(memory) // 5]
        assert memory[-1] < 1.1 * settled, memory
        assert stop(script).returncode == 0
