// Tokenizes each text of a JSON list with llama.cpp, special strings taken as ordinary text, and writes the ids.
//
//     node tokens.mjs NODE_MODULES MODEL.gguf TEXTS.json IDS.json
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [nodeModules, modelPath, textsPath, idsPath] = process.argv.slice(2);
const entry = path.join(path.resolve(nodeModules), "node-llama-cpp", "dist", "index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: path.resolve(modelPath), vocabOnly: true});
const texts = JSON.parse(fs.readFileSync(textsPath, "utf8"));
fs.writeFileSync(idsPath, JSON.stringify(texts.map((text) => Array.from(model.tokenize(text, false)))));
process.exit(0);
