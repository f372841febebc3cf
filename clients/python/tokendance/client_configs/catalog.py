"""The clients that can be configured: their files, how each is run, and what its people should know."""

from __future__ import annotations

from typing import NamedTuple


class FileTemplate(NamedTuple):
    """A file of a configuration. `path` is where it belongs: from the home directory (`~/…`), or from a project."""

    template: str
    path: str
    language: str


class ClientConfig(NamedTuple):
    """One client. `run` is what to type; `notes` are sentences; `tested` tells whether our tests run the client itself.

    Texts may hold the placeholders of templates.
    """

    name: str
    title: str
    intro: str
    files: tuple[FileTemplate, ...]
    run: str
    notes: tuple[str, ...]
    tested: bool
    more: str = ""
    """Pages beside this one that tell more, as Markdown: for the documentation alone."""


_KEY_NOTE = (
    "Set `TOKENDANCE_API_KEY` from a secret store. It belongs in no file of a project, issue, screenshot or log."
)


def _notes(text: str) -> tuple[str, ...]:
    """Return the paragraphs of a text, each as one line."""
    return tuple(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


CLIENTS = (
    ClientConfig(
        "codex",
        "Codex",
        "Codex CLI speaks the Responses API. A profile of its own leaves the rest of your configuration as it is.",
        (FileTemplate("codex.toml", "~/.codex/tokendance.config.toml", "toml"),),
        'codex --profile tokendance\ncodex exec --profile tokendance "Explain this repository"',
        (
            _KEY_NOTE,
            *_notes("""
            With `CODEX_HOME` set, the file belongs in that directory.

            A spent quota reads `You've hit your usage limit`, with the time at which it starts anew; a model that
            the key may not call and a bad request are told in our words, at once.

            Which tools Codex offers to a model depends on the model's name; hosted ones that the model's provider
            does not have are left out, and named in the answer's warnings.
            """),
        ),
        True,
        "[What Codex does with each error](agents-and-errors-codex.md).",
    ),
    ClientConfig(
        "claude-code",
        "Claude Code",
        "Claude Code speaks the Messages API. Its base URL is that of the gateway without `/v1`.",
        (FileTemplate("claude-code.sh", "~/.config/tokendance/claude-code.sh", "sh"),),
        '. ~/.config/tokendance/claude-code.sh\nclaude\nclaude -p "Explain this repository"',
        (
            _KEY_NOTE,
            *_notes("""
            `ANTHROPIC_AUTH_TOKEN` is sent as `Authorization: Bearer`; where `ANTHROPIC_API_KEY` is set, too, both
            are sent, and the gateway refuses two different ones.

            A bad key ends a turn at once. `CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS=1` helps where a model's provider
            refuses fields that only Anthropic has.
            """),
        ),
        True,
        "[What Claude Code does with each error](agents-and-errors-claude-code.md).",
    ),
    ClientConfig(
        "opencode",
        "opencode",
        "opencode takes the gateway as a provider by its OpenAI-compatible API, in a project or for all of them.",
        (FileTemplate("opencode.json", "~/.config/opencode/opencode.json", "json"),),
        'opencode\nopencode run "Explain this repository"',
        (
            _KEY_NOTE,
            *_notes("""
            The same file may be called `opencode.json` in a project: it holds the name of the variable, and no key.
            """),
        ),
        True,
    ),
    ClientConfig(
        "aider",
        "aider",
        "aider reads the variables of the OpenAI SDK. The prefix `openai/` is aider's word for such a gateway.",
        (FileTemplate("aider.sh", "~/.config/tokendance/aider.sh", "sh"),),
        ". ~/.config/tokendance/aider.sh\naider --model openai/<<model>>",
        (
            _KEY_NOTE,
            *_notes("""
            aider repeats 402 and 403 for half a minute, and ends with exit code 0 also where a call failed.
            """),
        ),
        False,
    ),
    ClientConfig(
        "continue",
        "Continue",
        "Continue, in an editor or as `cn`, takes the gateway as a model of its OpenAI provider.",
        (FileTemplate("continue.yaml", "~/.continue/config.yaml", "yaml"),),
        'cn -p "Explain this repository"',
        (
            _KEY_NOTE,
            *_notes("""
            Where you have a configuration already, add the entry below `models` by hand.
            """),
        ),
        False,
    ),
    ClientConfig(
        "python",
        "Python",
        "The official OpenAI SDK for Python, unchanged: `pip install openai`.",
        (FileTemplate("hello.py.txt", "hello_tokendance.py", "python"),),
        "python hello_tokendance.py",
        (
            _KEY_NOTE,
            *_notes("""
            Every error has a stable `code` and a request id (`error.request_id`); what a retry cannot cure says
            `x-should-retry: false`, which the SDK obeys.

            Services inside speak gRPC instead: see the typed client in `clients/python`.
            """),
        ),
        True,
    ),
    ClientConfig(
        "node",
        "Node",
        "The official OpenAI SDK for Node, unchanged: `npm install openai`.",
        (FileTemplate("hello.mjs", "hello-tokendance.mjs", "javascript"),),
        "node hello-tokendance.mjs",
        (
            _KEY_NOTE,
            *_notes("""
            The key belongs on a server: a browser would show it to everybody.
            """),
        ),
        True,
    ),
    ClientConfig(
        "langchain",
        "LangChain",
        "LangChain's OpenAI integration: `pip install langchain-openai`.",
        (FileTemplate("hello_langchain.py.txt", "hello_langchain.py", "python"),),
        "python hello_langchain.py",
        (
            _KEY_NOTE,
            *_notes("""
            `use_responses_api=True` goes to the Responses API, which the gateway serves, too.
            """),
        ),
        True,
    ),
    ClientConfig(
        "agenthub",
        "AgentHub",
        "Base URL and key belong in the environment of the runtime adapter, on a server that you control. "
        "AgentHub Desktop and Web hold no model key, and a Hub session is not one: in the place of a key it "
        "is refused with `hub_session_not_accepted`.",
        (FileTemplate("agenthub.env.sh", "~/.config/tokendance/agenthub.sh", "sh"),),
        ". ~/.config/tokendance/agenthub.sh\n# then start the adapter from the same shell",
        (
            _KEY_NOTE,
            *_notes("""
            One key for each adapter, with a purpose and an owner of its own: then usage tells them apart, and one
            of them can be revoked alone.
            """),
        ),
        True,
        "[What the owner of an adapter does](agenthub-adapter.md): streams, deadlines, tools, restarts, rotation.",
    ),
    ClientConfig(
        "tokendancecode",
        "TokenDanceCode",
        "This is experimental. Nothing selects the gateway by itself: TokenDanceCode maps the OpenAI "
        "provider, and you name that provider.",
        (FileTemplate("tokendancecode.sh", "~/.config/tokendance/tokendancecode.sh", "sh"),),
        ". ~/.config/tokendance/tokendancecode.sh\n# then choose the OpenAI provider in TokenDanceCode",
        (
            _KEY_NOTE,
            *_notes("""
            That the command line chooses the gateway by itself is no promise yet.
            """),
        ),
        False,
    ),
    ClientConfig(
        "ci",
        "CI and automation",
        "A job that calls a model, for GitHub Actions and for GitLab, with the key as a masked secret of the pipeline.",
        (
            FileTemplate("github.yml", ".github/workflows/ask-a-model.yml", "yaml"),
            FileTemplate("gitlab.yml", ".gitlab-ci.yml", "yaml"),
        ),
        "",
        _notes("""
            Use a key of its own for each pipeline, with a budget, and with the networks of its runners where they
            are known.

            Publish no prompt, answer, path or private log: artifacts and job summaries are read by more people than
            the job was made by.
            """),
        False,
    ),
)
"""Every client, in the order in which pages show them."""

BY_NAME = {client.name: client for client in CLIENTS}
"""Each by its name."""
