"""Compares the tokenizer.json of a model folder with llama.cpp's tokenizer of the GGUF file it came from.

    python tokens.py checkpoints/base/smollm2-135m-instruct-q4_1 SmolLM2-135M-Instruct.Q4_1.gguf --setup

prints a row for each kind of text: lines, tokens, lines with the same ids. The exit code is 1 if a line differs.
Special strings are taken as ordinary text on both sides. A byte-level vocabulary that lacks some bytes (SmolLM2's has no
token for the lead bytes of planes 4 to 11 of Unicode, where no character is) loses them on both sides; tokenizers merges
across the gap and llama.cpp does not. A line that holds such a byte and differs is counted as `lossy`, not as a
failure: ours is what the published tokenizer.json does, by which the model was trained. `--setup` installs what is needed (pip: tokenizers,
chitchat-dataset; npm: node-llama-cpp with its build for 64-bit Linux) in a temporary folder, or in the folder that is
named; without it, tokenizers must be importable, and `--node-modules` and `--chats` say where the rest is.
"""

import argparse
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

PIP = ["tokenizers==0.23.3", "chitchat-dataset==0.9.0"]
NPM = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1"]
HERE = pathlib.Path(__file__).resolve().parent

SUBJECTS = ["Mi pedido", "La factura de marzo", "El señor Núñez", "Aquella pingüina", "¿Quién", "¡Qué lástima,", "Su contraseña",
            "El envío a A Coruña", "Año tras año, la niña", "Lo del IVA (21 %)", "La canción «Ojalá»", "Tu güisqui", "DON JOSÉ",
            "el camión nº 7", "Ud., según la Sra. Ibáñez,"]
VERBS = ["no ha llegado", "llegó ayer", "se perdió otra vez", "aún está en tránsito", "costó 1.299,95 €", "cambió de dirección",
         "averiguará", "dejó de funcionar", "me exigió un justificante", "salió a las 07:45", "volvió sin avisar"]
ENDS = [".", "?", "!", "...", ", ¿verdad?", " — y ya van 3.", "; mañana más.", " :-(", "\n", "\t", ' "así de simple".', " …"]
CHARACTERS = {
    "digits": "0123456789٠١٢٣४५६一二三Ⅳ½²₃０１２.,:-/ ",
    "white space": " \t\n\r\v\f\u00a0\u0085\u1680\u2002\u2003\u2009\u2028\u2029\u202f\u205f\u3000abc1.\u200b\ufeff",
    "emoji": "😀👍🎉❤️\u200d👩🏽💻👨‍👩‍👧🇪🇸🏳🌈☕✈️#️⃣ 1a.",
    "combining marks": "eaonuUS \u0301\u0308\u0303\u0327\u030a\u0323\u0331\u20e3ñç\u0650\u064e\u093f\u094d\u0e34",
    "CJK": "你好世界我們在東京都、。「」ひらがなカタカナ漢字ー한국어 안녕하세요ａＢ１2 \u3000",
    "Arabic": "مرحبا بالعالم، كيف حالك؟ ١٢٣ \u0640\u064b\u064f\u0651ءآأؤإئابتةثجحخدذرزس ab",
    "other scripts": "Привет, мир! Ёжик Ґанок ελληνικά ΑΒΓ ςσ שלום हिन्दी ไทย ქართული Հայ አማርኛ தமிழ் 1. ",
    "code and symbols": "{}[]()<>=+-*/%&|^~!?:;,.'\"`@#$\\_ \n\tabcXYZ019'll're's'T",
    "anything": None,
}


def chats(path):
    texts = []
    for chat in json.loads(pathlib.Path(path).read_text()).values():
        texts.extend(message["text"] for turn in chat["messages"] for message in turn)
    return list(dict.fromkeys(texts))


def spanish(rng):
    lines = [f"{subject} {verb}{end}" for subject, verb, end in itertools.product(SUBJECTS, VERBS, ENDS)]
    rng.shuffle(lines)
    # A third each as typed, decomposed into letters and marks, and in capitals or without accents.
    third = len(lines) // 3
    plain = [unicodedata.normalize("NFD", line).encode("ascii", "ignore").decode() for line in lines[2 * third :]]
    return lines[:third] + [unicodedata.normalize("NFD", line) for line in lines[third : 2 * third]] + [
        line.upper() if index % 2 else line for index, line in enumerate(plain)
    ]


def any_character(rng):
    while True:
        code = rng.choice([rng.randrange(0x80), rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x110000)])
        if not 0xD800 <= code < 0xE000 and code != 0:
            return chr(code)


def generated(rng, alphabet, count):
    for _ in range(count):
        length = rng.randint(1, 40)
        characters = [any_character(rng) if alphabet is None else rng.choice(alphabet) for _ in range(length)]
        if rng.random() < 0.5:  # runs
            characters = [character * rng.choice([1, 1, 1, 2, 3, 5]) for character in characters]
        yield "".join(characters)


def special_strings(rng, tokens, count):
    words = ["hola", " ", "\n", "<", ">", "|", "im_end", "user\n", "¿y eso?"]
    for _ in range(count):
        yield "".join(rng.choice(tokens) if rng.random() < 0.4 else rng.choice(words) for _ in range(rng.randint(1, 8)))


def groups(tokenizer_json, chats_path, count):
    rng = random.Random(20)
    out = {"chats": chats(chats_path)[: 8 * count], "Spanish": spanish(rng)}
    for name, alphabet in CHARACTERS.items():
        out[name] = list(generated(rng, alphabet, count))
    added = [token["content"] for token in tokenizer_json["added_tokens"]]
    if added:
        out["special strings"] = list(special_strings(rng, added, count))
    return out


def missing_bytes(tokenizer_json):
    """The bytes for which a byte-level vocabulary has no token; none for SentencePiece, which has them all."""
    if tokenizer_json["model"]["byte_fallback"]:
        return set()
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {byte for byte, character in alphabet.items() if character not in tokenizer_json["model"]["vocab"]}


def setup(folder):
    """Installs both sides in `folder` and gives back the Python, the node_modules and the chats to use."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PIP], check=True)
    if not (folder / "node_modules" / "node-llama-cpp").exists():
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", "--prefix", folder, *NPM], check=True)
    found = "import chitchat_dataset, pathlib; print(pathlib.Path(chitchat_dataset.__file__).parent / 'dataset.json')"
    chats_path = subprocess.run([python, "-c", found], check=True, capture_output=True, text=True).stdout.strip()
    return python, folder / "node_modules", chats_path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="model folder with tokenizer.json")
    parser.add_argument("gguf", type=pathlib.Path, help="GGUF file with llama.cpp's tokenizer")
    parser.add_argument("--setup", nargs="?", const="", metavar="DIR", help="install what is needed, here or in a temporary folder")
    parser.add_argument("--node-modules", type=pathlib.Path, help="folder with node-llama-cpp")
    parser.add_argument("--chats", help="dataset.json of chitchat-dataset")
    parser.add_argument("--lines", type=int, default=500, help="lines of each generated kind [default: 500]")
    arguments = parser.parse_args()
    if arguments.setup is not None:
        folder = pathlib.Path(arguments.setup or tempfile.mkdtemp(prefix="afina-peers-"))
        python, node_modules, chats_path = setup(folder)
        command = [python, __file__, arguments.model, arguments.gguf, "--lines", str(arguments.lines)]
        sys.exit(subprocess.run([*command, "--node-modules", node_modules, "--chats", chats_path]).returncode)

    import tokenizers

    tokenizer_path = arguments.model / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_path))
    tokenizer.encode_special_tokens = True
    tokenizer_json = json.loads(tokenizer_path.read_text())
    kinds = groups(tokenizer_json, arguments.chats, arguments.lines)
    missing = missing_bytes(tokenizer_json)
    with tempfile.TemporaryDirectory() as folder:
        texts, ids = pathlib.Path(folder, "texts.json"), pathlib.Path(folder, "ids.json")
        texts.write_text(json.dumps([text for lines in kinds.values() for text in lines]))
        command = ["node", HERE / "tokens.mjs", arguments.node_modules, arguments.gguf, texts, ids]
        subprocess.run(command, check=True)
        theirs = iter(json.loads(ids.read_text()))

    print(f"tokenizers {tokenizers.__version__}, node-llama-cpp; {tokenizer_path}")
    print(f"{'kind':<18}{'lines':>7}{'tokens':>9}{'equal':>7}{'lossy':>7}{'differ':>7}")
    totals, shown = [0] * 5, []
    for kind, lines in kinds.items():
        row = [len(lines), 0, 0, 0, 0]
        for text in lines:
            ours, expected = tokenizer.encode(text, add_special_tokens=False).ids, next(theirs)
            lossy = not missing.isdisjoint(text.encode())
            row[1] += len(expected)
            row[2 if ours == expected else 3 if lossy else 4] += 1
            if ours != expected and not lossy:
                shown.append((kind, text, ours, expected))
        print(f"{kind:<18}{row[0]:>7}{row[1]:>9}{row[2]:>7}{row[3]:>7}{row[4]:>7}")
        totals = [total + part for total, part in zip(totals, row)]
    print(f"{'all':<18}{totals[0]:>7}{totals[1]:>9}{totals[2]:>7}{totals[3]:>7}{totals[4]:>7}")
    for kind, text, ours, expected in shown[:10]:
        at = next((i for i, (a, b) in enumerate(zip(ours, expected)) if a != b), min(len(ours), len(expected)))
        print(f"differs ({kind}): {text!r}\n  at token {at}: ours {ours[at:at + 6]}, llama.cpp {expected[at:at + 6]}")
    sys.exit(1 if shown else 0)


if __name__ == "__main__":
    main()
