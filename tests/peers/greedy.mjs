// Greedy text of llama.cpp, for parity.py: `node greedy.mjs NODE_MODULES MODEL.gguf < {"prompts": […], "max_tokens": N}`.
// Prints [{"tokens": prompt ids, "generated": ids, "end": [true where the id ends generation], "text"}] as JSON.
// One thread, so that a busy machine does not stall it at barriers;
// f32 key/value cache and no flash attention: llama.cpp's default f16 cache would decide near ties by its rounding.
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [nodeModules, modelPath] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(join(nodeModules, "node-llama-cpp/dist/index.js")).href);
const {prompts, max_tokens: maxTokens} = JSON.parse(readFileSync(0, "utf8"));

const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1});
const model = await llama.loadModel({modelPath});
const context = await model.createContext({
    contextSize: 512, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
});
const sequence = context.getSequence();

const results = [];
for (const prompt of prompts) {
    await sequence.clearHistory();
    const tokens = model.tokenize(prompt, true);
    const generated = [];
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        generated.push(token);
        if (generated.length === maxTokens || model.isEogToken(token)) break;
    }
    const end = generated.map((token) => model.isEogToken(token));
    results.push({tokens, generated, end, text: model.detokenize(generated, true)});
}
process.stdout.write(JSON.stringify(results) + "\n");
await llama.dispose();
