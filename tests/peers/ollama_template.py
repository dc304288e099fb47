"""The `TEMPLATE` of `afina export --as ollama`, run by Go's own text/template, beside transformers' rendering of the Jinja.

    python tests/peers/ollama_template.py [--setup]

A model of the tests gets each chat template in turn: the published ones of `tests/fixtures/chat/templates` and the two that come
with afina-chat. `afina export --as ollama` writes the Modelfile; its template is parsed out as Ollama does, and executed as
Ollama does with `Messages` (of which each has `Role` and `Content`), on exchanges with and without a system message. The text must
be what transformers renders with a generation prompt, less the token that the GGUF's tokenizer puts before every text. Exit 1 where
any differs. Needs `go` in the path (any version from 1.18 on) and transformers 5.23.0; `--setup` installs the latter.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import REPOSITORY, afina, markdown_table, require_paths, require_versions

PYTHON = {"transformers": "5.23.0"}
PROGRAM = """
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }

// Ollama's functions that a template may call are not here: one that calls them does not parse.
func main() {
	var job struct {
		Template string
		Exchanges [][]message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(job.Template))
	texts := []string{}
	for _, messages := range job.Exchanges {
		system := ""
		for _, message := range messages {
			if message.Role == "system" {
				system += message.Content
			}
		}
		var text writer
		values := map[string]any{"System": system, "Messages": messages, "Tools": nil, "Response": ""}
		if err := parsed.Execute(&text, values); err != nil {
			panic(err)
		}
		texts = append(texts, string(text))
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}

type writer []byte

func (w *writer) Write(bytes []byte) (int, error) {
	*w = append(*w, bytes...)
	return len(bytes), nil
}
"""
TURNS = [("user", "¿Qué hora es?"), ("assistant", "Las dos.\nY media."), ("user", "{{ .Content }} \"x\" \\n <|im_end|>"),
         ("assistant", "{% raw %}"), ("user", "a\n\n```go\nfunc main() {}\n```")]
SYSTEM = [("system", "Eres **breve**.\n\nY \"amable\".")]


def exchanges():
    for count in (1, 3, 5):
        yield TURNS[:count]
        yield SYSTEM + TURNS[:count]


def template_of(modelfile):
    """The text behind `TEMPLATE`, as Ollama's parser takes it."""
    found = re.search(r'^TEMPLATE """(.*?)"""$', modelfile, re.DOTALL | re.MULTILINE)
    return found and found[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--afina", type=Path, default=REPOSITORY / "target/release/afina")
    parser.add_argument("--setup", action="store_true", help="install the pinned version into a temporary folder")
    args = parser.parse_args()
    require_versions(args.setup, PYTHON)
    require_paths(args.afina)
    from transformers.utils.chat_template_utils import render_jinja_template

    published = REPOSITORY / "tests/fixtures/chat/templates"
    ours = REPOSITORY / "crates/afina-chat/src/templates"
    rows, fine = [], True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "main.go").write_text(PROGRAM)
        subprocess.run(["go", "build", "-o", folder / "render", folder / "main.go"], check=True,
                       env={"HOME": temporary, "PATH": "/usr/bin:/bin:/usr/local/bin:/usr/local/go/bin", "GO111MODULE": "off"})
        model = folder / "model"
        afina(args.afina, "pull", REPOSITORY / "tests/fixtures/gguf/tiny-bpe.gguf", "--to", model)
        config = json.loads((model / "tokenizer_config.json").read_text())
        bos, eos = config.get("bos_token"), config.get("eos_token")
        for number, path in enumerate(sorted([*published.glob("*.jinja"), *ours.glob("*.jinja")])):
            source = path.read_text()
            (model / "chat_template.jinja").write_text(source)
            (model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": source}))
            to = folder / f"ollama-{number}"
            afina(args.afina, "export", "--as", "ollama", "--model", model, "--type", "F16", "--to", to)
            go = template_of((to / "Modelfile").read_text())
            if go is None:
                print(f"{path.name}: no template in the Modelfile")
                fine = False
                continue
            cases = [[{"Role": role, "Content": text} for role, text in exchange] for exchange in exchanges()]
            run = subprocess.run([folder / "render"], input=json.dumps({"Template": go, "Exchanges": cases}),
                                 capture_output=True, text=True)
            if run.returncode != 0:
                sys.exit(f"error: {path.name}: Go refuses the template\n{run.stderr}\n{go}")
            equal = 0
            for found, exchange in zip(json.loads(run.stdout), exchanges()):
                messages = [{"role": role, "content": text} for role, text in exchange]
                expected, _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=True,
                                                    bos_token=bos, eos_token=eos)
                same = found == expected[0] or (bos and bos + found == expected[0])
                if not same:
                    print(f"{path.name}:\n  {expected[0]!r}\n  {found!r}")
                equal += bool(same)
            rows.append([path.name, len(cases), f"{equal}/{len(cases)}"])
            fine = fine and equal == len(cases)
    print(markdown_table(["chat template", "exchanges", "equal texts"], rows))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
