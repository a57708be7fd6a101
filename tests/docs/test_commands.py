"""Commands that the documents print: their names, flags, recipes and files exist."""

import re
import shlex

import pytest
from document_paths import DOCUMENTS, ROOT

from hf_fusion.cli.main import COMMANDS, main
from hf_fusion.utils.shipped import shipped_files

_BLOCK = re.compile(r"^( *)```bash\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(hf-fusion [^`]+|accelerate launch [^`]+|python scripts[^`]+|--[a-z_]+[^`]*)`")


def commands_of(page):
    """Every line of a bash block, without its comment and with its continuation, and commands inside a sentence."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(block for _, block in _BLOCK.findall(text)).replace("\\\n", " ")
    for line in [*blocks.splitlines(), *_INLINE.findall(re.sub(r"\s+", " ", text))]:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # a sentence that opens a quotation
        if words:
            yield words


LINES = [(page.relative_to(ROOT).as_posix(), words) for page in DOCUMENTS for words in commands_of(page)]
PRINTED = [(page, words[words.index("hf-fusion") + 1 :]) for page, words in LINES if "hf-fusion" in words]
RECIPES = {"train": "recipe", "distill": "recipe", "study": "study", "tune": "search"}


@pytest.fixture(scope="module")
def help_of():
    """The help of each command, all fields included."""
    texts = {}

    def get(command, capsys):
        if command not in texts:
            flag = "--help-all" if command in ("train", "distill") else "--help"
            try:
                main([command, flag])
            except SystemExit as end:
                assert not end.code
            texts[command] = capsys.readouterr().out
        return texts[command]

    return get


def flags_in(words):
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]


def test_documents_print_commands():
    assert {words[0] for _, words in PRINTED} >= set(COMMANDS) - {"quickstart"}


@pytest.mark.parametrize(("page", "words"), PRINTED, ids=[f"{page}-{' '.join(words)[:40]}" for page, words in PRINTED])
def test_commands_have_the_flags_and_recipes_that_are_printed(page, words, help_of, capsys):
    command, *arguments = words
    if command == "COMMAND" or command.startswith("--"):
        return
    assert command in COMMANDS
    text = help_of(command, capsys)
    for flag in flags_in(arguments):
        assert flag in ("--help", "--help-all") or re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), flag
    kind = RECIPES.get(command)
    name = arguments[0] if command in ("study", "tune") and arguments else None
    if "--config" in arguments:
        name = arguments[arguments.index("--config") + 1]
    if kind and name and re.fullmatch(r"\w+", name) and not name.isupper():
        assert name in shipped_files(kind)


def test_flags_in_sentences_exist(help_of, capsys):
    known = "".join(help_of(command, capsys) for command in COMMANDS)
    others = {"--multi_gpu", "--cpu", "--num_processes", "--auto-truncate"}  # of accelerate and TEI
    for page, words in LINES:
        if words[0].startswith("--") and words[0] not in others:
            assert re.search(rf"(?<![\w-]){re.escape(words[0].partition('=')[0])}(?![\w-])", known), (page, words[0])


def test_scripts_that_are_printed_exist():
    files = [word for _, words in LINES for word in words if word.startswith("scripts/") and "." in word]
    assert len(files) > 5
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_recipes_of_the_list_are_those_of_the_package():
    page = (ROOT / "docs" / "guides" / "commands.md").read_text(encoding="utf-8")
    rows = page.partition("## Recipes")[2]
    listed = {
        name for line in rows.splitlines() if line.startswith("| `") for name in re.findall(r"`(d[a-z]+_\w+)`", line)
    }
    assert listed == set(shipped_files("recipe"))
