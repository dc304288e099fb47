"""What the scripts in this folder share: pinned versions, a virtual environment for them, and calls of `afina`."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PYTHON = {"torch": "2.9.1", "transformers": "5.23.0", "peft": "0.21.2", "safetensors": "0.8.0"}
NODE = {"node-llama-cpp": "3.22.1", "@node-llama-cpp/linux-x64": "3.22.1"}
REPOSITORY = Path(__file__).resolve().parents[2]
SETUP = Path(tempfile.gettempdir()) / "afina-peers"


def require_versions(setup, packages=PYTHON, folder="venv"):
    """Goes on under the pinned versions: those installed, or with `--setup` a virtual environment in a temporary folder."""
    wrong = {name: found for name, pinned in packages.items() if (found := installed(name)) != pinned}
    if not wrong:
        return
    environment = SETUP / folder
    if not setup:
        found = ", ".join(f"{name} {packages[name]} (found {have})" for name, have in wrong.items())
        sys.exit(f"error: needs {found}\nhint: `--setup` installs them with pip into `{environment}`")
    if Path(sys.prefix) == environment:
        sys.exit(f"error: `{environment}` holds other versions: {wrong}\nhint: delete that folder")
    python = environment / "bin/python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    pinned = [f"{name}=={version}" for name, version in packages.items()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned], check=True)
    os.execv(python, [str(python), *sys.argv])


def installed(name):
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "none"


def node_modules(setup):
    """The `node_modules` that `--setup` fills with llama.cpp's Node binding (a prebuilt one: no script runs)."""
    folder = SETUP / "npm"
    if setup and not (folder / "node_modules/node-llama-cpp").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        packages = [f"{name}@{pinned}" for name, pinned in NODE.items()]
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", "--prefix", folder, *packages],
                       check=True, stdout=sys.stderr)
    return folder / "node_modules"


def require_node_modules(folder):
    for name, pinned in NODE.items():
        path = folder / name / "package.json"
        found = json.loads(path.read_text())["version"] if path.is_file() else "none"
        if found != pinned:
            sys.exit(f"error: needs {name} {pinned} in `{folder}`, found {found}\nhint: `--setup` installs it with npm")


def llama_cpp(modules):
    """llama.cpp's library from `node_modules`, silent."""
    folder = modules / "@node-llama-cpp/linux-x64/bins/linux-x64"
    ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    ggml = ctypes.CDLL(str(folder / "libggml.v0.5.0.so"), mode=ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(str(folder / "libllama.v0.5.0.so"))
    llama.silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(llama.silent, None)
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    llama.llama_backend_init()
    return llama


def require_paths(*paths):
    """Each given path exists: transformers would take a missing folder for a name on a hub."""
    for path in paths:
        if path is not None and not path.exists():
            sys.exit(f"error: no such file or folder: `{path}`")


def afina(binary, *arguments, env=None, preexec_fn=None):
    """Runs `afina` and returns its stdout; a failure shows its own message and ends the script."""
    command = [str(binary), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=env, preexec_fn=preexec_fn)
    if run.returncode != 0:
        sys.exit(f"error: `{' '.join(command)}` ended with {run.returncode}\n{run.stderr.strip()}")
    return run.stdout


def afina_json(binary, *arguments, keys, **options):
    """The JSON object that `afina` prints, which must have `keys`."""
    text = afina(binary, *arguments, **options)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        sys.exit(f"error: `{binary} {arguments[0]}` printed no JSON object: {error}\n{text[:500]}")
    if missing := [key for key in keys if key not in value]:
        sys.exit(f"error: `{binary} {arguments[0]}` printed no {missing}, only {sorted(value)}")
    return value


def markdown_table(header, rows):
    """A table whose columns line up; all but the first column are flush right."""
    cells = [header, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row):
        return "| " + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
