"""The server of the page: what it offers, what it refuses, and what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from demo_inputs import HOSTILE
from tiny_runs import ENVIRONMENT, LONGEST_SECONDS, ROOT, script_here

from hf_fusion.deployment.demo.page import MOST_CHARACTERS, DemoPage, DemoSettings
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.extras import MissingExtraError

pytest_plugins = ["demo_models"]
gradio = pytest.importorskip("gradio", reason="no gradio: pip install 'hf-fusion[demo]'")


@pytest.fixture(scope="module")
def asked():
    """The addresses that this process connects to."""
    addresses, connect = [], socket.socket.connect

    def note(self, address):
        addresses.append(address)
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", note)
        yield addresses


@pytest.fixture(scope="module")
def page(review_model, asked):
    with DemoPage([review_model], DemoSettings(max_file_size=1)) as page:
        page.launch("127.0.0.1", block=False)
        yield page


@pytest.fixture(scope="module")
def client(page):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=page.blocks.local_url, timeout=LONGEST_SECONDS, trust_env=False) as client:
        yield client


def test_nothing_is_asked_of_another_machine(page, client, asked):
    client.get("/")
    client.get("/config")
    others = [address for address in asked if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1")]
    assert others == [] and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not page.blocks.analytics_enabled and page.blocks.share_url is None


def test_one_function_can_be_called_by_programs(client, page, review_model):
    assert set(client.get("/gradio_api/info").json()["named_endpoints"]) == {"/predict"}
    event = client.post("/gradio_api/call/predict", json={"data": ["The bed was good."]}).json()["event_id"]
    answer = client.get(f"/gradio_api/call/predict/{event}").text
    assert "event: complete" in answer and review_model("The bed was good.")["label"] in answer
    assert page.predict(HOSTILE) == [{"model": "acme/reviews", **review_model(HOSTILE)}]
    for text in ("", "x" * (MOST_CHARACTERS + 1)):
        with pytest.raises(gradio.Error, match=r"is empty|takes up to 200,000"):
            page.predict(text)


def test_uploads_have_a_limit_and_only_they_are_served(client, page):
    small, large = ({"files": ("rows.csv", b"x" * size)} for size in (1000, 2_000_000))
    (path,) = client.post("/gradio_api/upload", files=small).raise_for_status().json()
    assert Path(path).is_relative_to(os.environ["GRADIO_TEMP_DIR"])
    assert client.post("/gradio_api/upload", files=large).status_code == 413
    for name in ("/etc/hostname", __file__, f"{path}/../../../etc/hostname"):
        assert client.get(f"/gradio_api/file={name}").status_code in (403, 404)


def test_no_run_is_recorded(client):
    assert client.get("/config").json()["run_history"] is False
    assert client.get("/monitoring").status_code in (401, 403, 404)


def test_a_port_that_is_taken(page, review_model):
    with DemoPage([review_model]) as other, pytest.raises(DataError, match=r"127\.0\.0\.1, port \d+: "):
        other.launch(port=page.blocks.server_port, block=False)


def test_settings_without_sense():
    for name in ("max_rows", "max_file_size", "timeout"):
        with pytest.raises(DataError, match=f"`{name}` must be above 0, got 0"):
            DemoSettings(**{name: 0})


@pytest.mark.skipif(bool(find_spec("mcp")), reason="mcp is installed")
def test_the_tool_for_agents_needs_its_extra(page):
    with pytest.raises(MissingExtraError, match=r"needs mcp, .* pip install 'hf-fusion\[mcp\]'"):
        page.launch(mcp=True, block=False)


@pytest.mark.skipif(not find_spec("mcp"), reason="no mcp: pip install 'hf-fusion[mcp]'")
def test_the_tool_for_agents(review_model):
    httpx = pytest.importorskip("httpx")
    with DemoPage([review_model]) as page:
        page.launch("127.0.0.1", mcp=True, block=False)
        schema = httpx.get(f"{page.blocks.local_url}gradio_api/mcp/schema", timeout=LONGEST_SECONDS).json()
    (tool,) = schema
    assert tool["name"].endswith("predict") and "sentiment of a text" in tool["description"]
    assert list(tool["inputSchema"]["properties"]) == ["text"]


@pytest.fixture
def demo(monkeypatch):
    return script_here("demo", monkeypatch)


def test_the_command_passes_its_flags_on(demo, media_checkpoint, monkeypatch, capsys):
    launched = []

    def launch(self, *options, on_start):
        launched.append((self, options))
        on_start("http://127.0.0.1:7860/", None)

    monkeypatch.setattr(DemoPage, "launch", launch)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo(media_checkpoint, "--port", 7999, "--max_rows", 7, "--timeout", 9, "--device", "cpu", "--mcp") == 0
    ((page, options),) = launched
    assert options == ("127.0.0.1", 7999, False, True)
    assert (page.settings.max_rows, page.settings.timeout, page.settings.dataset) == (7, 9.0, None)
    printed = capsys.readouterr().out
    assert "The page is at http://127.0.0.1:7860/" in printed and "http://127.0.0.1:7860/gradio_api/mcp/" in printed


def test_errors_of_the_command_are_one_line(demo, media_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert demo(tmp_path / "none") == 2
    assert demo(media_checkpoint, "--max_rows", 0) == 2
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 2 and "no such folder" in messages[0] and "must be above 0" in messages[1]


@pytest.mark.nightly
def test_the_command_ends_with_sigterm_and_leaves_nothing(media_checkpoint, tmp_path):
    command = [sys.executable, "-m", "hf_fusion", "demo", media_checkpoint, "--device", "cpu"]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout.readline().startswith("The page is at http://127.0.0.1:")
            assert len(list(tmp_path.glob("hf_fusion_demo_*"))) == 1
            process.terminate()
            assert process.wait(LONGEST_SECONDS) == 128 + signal.SIGTERM
            assert not list(tmp_path.glob("hf_fusion_demo_*"))
        finally:
            process.kill()
