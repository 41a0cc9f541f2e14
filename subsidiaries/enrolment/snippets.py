"""What somebody pastes to bring an agent to a seat: exchange the token, keep the login, start."""

from dataclasses import dataclass

from django.conf import settings

PATH = "/api/v1/agents/credentials/"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A few lines for a language."""

    language: str
    title: str
    text: str


PYTHON = """\
python -m claytom_agent enrol --portal {portal} --token {token} --out agent.env
set -a; . ./agent.env; set +a
python examples/python/agent.py
"""
NODE = """\
npm install nats
node --input-type=module -e '
import {{ writeFileSync }} from "node:fs";
const answer = await (await fetch("{portal}{path}", {{
  method: "POST", headers: {{ "Content-Type": "application/json" }},
  body: JSON.stringify({{ token: "{token}" }}),
}})).json();
if (!answer.creds) throw new Error(JSON.stringify(answer));
writeFileSync("agent.creds", answer.creds, {{ mode: 0o600 }});
const variables = {{ CLAYTOM_SUBJECT: answer.subject, NATS_URL: answer.nats_url, CLAYTOM_CREDS: "agent.creds" }};
writeFileSync("agent.env", Object.entries(variables).map(([name, value]) => `${{name}}=${{value}}\\n`).join(""));
'
node --env-file=agent.env examples/node/agent.mjs
"""
SHELL = """\
umask 077
curl -s --json '{{"token": "{token}"}}' {portal}{path} > agent.json
jq -r .creds agent.json > agent.creds
export CLAYTOM_SUBJECT=$(jq -r .subject agent.json) NATS_URL=$(jq -r .nats_url agent.json) CLAYTOM_CREDS=agent.creds
rm agent.json
python examples/raw/agent.py
"""


def snippets(token: str) -> list[Snippet]:
    """Return the lines for each language, with the token in them."""
    values = {"portal": settings.PORTAL_URL, "path": PATH, "token": token}
    texts = (("python", "Python", PYTHON), ("node", "Node", NODE), ("shell", "Shell", SHELL))
    return [Snippet(language, title, text.format(**values)) for language, title, text in texts]
