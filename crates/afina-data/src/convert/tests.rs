use expect_test::{Expect, expect};

use super::*;
use crate::testing::{Random, mutate, read_all};

fn run(source: &[u8], from: Option<Format>) -> (Conversion, Vec<u8>, Vec<Note>) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let separators = separators(&mut &*source, from).unwrap();
    let done = convert(&mut &*source, "in.jsonl", from, separators, &mut out, &mut |note| notes.push(note)).unwrap();
    (done, out, notes)
}

/// What is written passes the rules of its method.
fn check_written(out: &[u8]) {
    if out.is_empty() {
        return;
    }
    let method = if out.starts_with(b"{\"input\"") { Method::Dpo } else { Method::Sft };
    let (diagnostics, ..) = read_all(out, &ReadOptions::new(method, Profile::OpenAi));
    let errors: Vec<_> = diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Error && found.rule != "too-few-examples")
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{}", String::from_utf8_lossy(out));
}

/// The output, and the notes as `line:column: …`, hints left out.
#[track_caller]
fn check(source: &str, expect: Expect) {
    let (done, out, notes) = run(source.as_bytes(), None);
    check_written(&out);
    assert_eq!(done.records, done.written + done.refused);
    let mut shown = format!("{}\n{}", done.format.map_or("none", Format::as_str), String::from_utf8(out).unwrap());
    for mut note in notes {
        assert!(!note.hint.is_empty(), "{note}");
        note.hint.clear();
        shown += &format!("{}\n", note.to_string().trim_start_matches("in.jsonl:"));
    }
    expect.assert_eq(&shown);
}

#[test]
fn openai_s_own_is_made_clean() {
    check(
        r#"{"messages":[{"role":"developer","content":"Be\u0020short, ñ."},{"role":"human","content":"Hi","id":7},{"content":[{"type":"output_text","text":"Ho","annotations":[]}],"role":"assistant","refusal":null,"reasoning_content":"hm"}],"model":"m"}
{"messages":[{"role":"user","content":"Time?"},{"role":"assistant","content":"","function_call":{"name":"clock","arguments":{"zone": "CET","n":[1,2.50]}}},{"role":"function","name":"clock","content":{"h":9}},{"role":"assistant","content":"Nine.","weight":1.0}],"functions":[{"name":"clock","parameters":{"type":"object","properties":{}}}]}"#,
        expect![[r#"
            openai
            {"messages": [{"role": "system", "content": "Be short, ñ."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Time?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\": \"CET\", \"n\": [1, 2.50]}"}}]}, {"role": "tool", "content": "{\"h\": 9}", "tool_call_id": "call_1"}, {"role": "assistant", "content": "Nine.", "weight": 1}], "tools": [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}]}
            1:101: warning[field-left-out] /messages/1/id: left out `messages[].id`, which has no place in the output
            1:223: warning[field-left-out] /messages/2/reasoning_content: left out `messages[].reasoning_content`, which has no place in the output
            1:238: warning[field-left-out] /model: left out `model`, which has no place in the output
        "#]],
    );
}

#[test]
fn what_stood_around_prompts_and_completions_goes() {
    check(
        "{\"prompt\":\"Q: x\\n\\n###\\n\\n\",\"completion\":\" y END\"}\n{\"prompt\":\"Q: z\\n\\n###\\n\\n\",\"completion\":\" w END\"}\n",
        expect![[r#"
            prompt-completion
            {"messages": [{"role": "user", "content": "Q: x"}, {"role": "assistant", "content": "y"}]}
            {"messages": [{"role": "user", "content": "Q: z"}, {"role": "assistant", "content": "w"}]}
        "#]],
    );
}

#[test]
fn of_nothing_nothing_comes_and_that_is_said() {
    check(
        "",
        expect![[r#"
        none
        1:1: error[file-empty]: expected one JSON object a line, found no bytes
    "#]],
    );
    check(
        " \n\n",
        expect![[r#"
        none
        1:1: error[file-empty]: expected one JSON object a line, found no bytes
    "#]],
    );
}

#[test]
fn a_list_of_messages_is_a_record() {
    check(
        "[{\"role\":\"user\",\"content\":\"Hi\"},\n{\"role\":\"assistant\",\"content\":\"Ho\"}]\n[{\"role\":\"user\",\"content\":\"Alone\"}]\n[]\n",
        expect![[r#"
            chat-array
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            3:1: error[missing-assistant-message]: once converted at /messages: expected an assistant message to learn, found none
            4:1: error[record-refused]: expected a record in a known format, found none that its keys tell
        "#]],
    );
}

#[test]
fn sharegpt_is_converted() {
    check(
        r#"[{"id":"a1","conversations":[{"from":"system","value":"S"},{"from":"human","value":"Hi \"you\"\n"},{"from":"gpt","value":"Ho","weight":0},{"from":"human","value":"Again"},{"from":"gpt","value":"Ha","weight":1}]},
{"system":"","conversations":[{"from":"human","value":"12 * 7?"},{"from":"function_call","value":"{\"name\": \"mul\", \"arguments\": {\"a\": 12, \"b\": 7}}"},{"from":"observation","value":"84"},{"from":"gpt","value":"84."}],"tools":"[{\"name\": \"mul\", \"description\": \"Multiplies\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"number\"}, \"b\": {\"type\": \"number\"}}}}]"},
{"conversations":[{"from":"human","value":"Alone"}]},
{"conversations":[{"from":"narrator","value":"x"}]}]"#,
        expect![[r#"
            sharegpt
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi \"you\"\n"}, {"role": "assistant", "content": "Ho", "weight": 0}, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "Ha", "weight": 1}]}
            {"messages": [{"role": "user", "content": "12 * 7?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "mul", "arguments": "{\"a\": 12, \"b\": 7}"}}]}, {"role": "tool", "content": "84", "tool_call_id": "call_1"}, {"role": "assistant", "content": "84."}], "tools": [{"type": "function", "function": {"name": "mul", "description": "Multiplies", "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}}]}
            1:8: warning[field-left-out] /id: left out `id`, which has no place in the output
            3:1: error[missing-assistant-message]: once converted at /messages: expected an assistant message to learn, found none
            4:27: error[record-refused] /conversations/0/from: expected a known role, found `narrator`
        "#]],
    );
}

#[test]
fn hermes_calls_and_images_of_sharegpt_find_their_place() {
    check(
        r#"{"conversations":[{"from":"human","value":"Weather in Rome and Lima?"},{"from":"gpt","value":"I look.\n<tool_call>\n{'arguments': {'city': 'Rome'}, 'name': 'weather'}\n</tool_call>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Lima\"}}\n</tool_call>"},{"from":"tool","value":"<tool_response>\n{\"c\": 20}\n</tool_response>\n<tool_response>\n{\"c\": 17}\n</tool_response>"},{"from":"gpt","value":"20 and 17."}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}
{"conversations":[{"from":"human","value":"<image>\nWhat is this?"},{"from":"gpt","value":"A cat."}],"images":["https://example.com/cat.png"]}
{"conversations":[{"from":"human","value":"<image>What is this?"},{"from":"gpt","value":"A cat."}],"images":["img/cat.png"]}
{"conversations":[{"from":"human","value":"Hi"},{"from":"observation","value":"1"},{"from":"gpt","value":"A cat."}]}"#,
        expect![[r#"
            sharegpt
            {"messages": [{"role": "user", "content": "Weather in Rome and Lima?"}, {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}, {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Lima\"}"}}]}, {"role": "tool", "content": "{\"c\": 20}", "tool_call_id": "call_1"}, {"role": "tool", "content": "{\"c\": 17}", "tool_call_id": "call_2"}, {"role": "assistant", "content": "20 and 17."}], "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}, {"type": "text", "text": "What is this?"}]}, {"role": "assistant", "content": "A cat."}]}
            3:110: error[record-refused] /images/0: expected the URL or data URI of an image, found `img/cat.png`
            4:49: error[record-refused] /conversations/1: expected the call that this answers before it, found none without an answer
        "#]],
    );
}

#[test]
fn alpaca_is_converted() {
    check(
        r#"{"instruction":"Add","input":"2+2","output":"4","history":[["Hi","Ho"]],"system":"S"}
{"instruction":"Say é","input":"","output":"é 😀","text":"Below …"}
{"instruction":"Give a list","output":{"a":1}}
{"instruction":"","output":"x"}"#,
        expect![[r#"
            alpaca
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Add\n2+2"}, {"role": "assistant", "content": "4"}]}
            {"messages": [{"role": "user", "content": "Say é"}, {"role": "assistant", "content": "é 😀"}]}
            2:57: warning[field-left-out] /text: left out `text`, which has no place in the output
            3:39: error[record-refused] /output: expected a text or a list of parts, found an object
            4:1: error[record-refused]: expected an instruction or an input, found neither
        "#]],
    );
}

#[test]
fn prompts_and_completions_are_converted() {
    check(
        r#"{"prompt":"2+2 ->","completion":" 4"}
{"prompt":[{"role":"user","content":"Hi"}],"completion":[{"role":"assistant","content":"Ho"}],"label":true}
{"question":"Why?","answer":"So."}
{"input":"Why?","output":"So."}
{"prompt":"Hi","completion":"bad","label":false}"#,
        expect![[r#"
            prompt-completion
            {"messages": [{"role": "user", "content": "2+2 ->"}, {"role": "assistant", "content": " 4"}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
            2:103: warning[field-left-out] /label: left out `label`, which has no place in the output
            5:43: error[record-refused] /label: expected a completion to learn from, found one labelled bad
        "#]],
    );
}

#[test]
fn pairs_become_openai_s() {
    check(
        r#"{"prompt":"Hi","chosen":"Hello!","rejected":"what","score":0.5}
{"chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"No"}]}
{"prompt":"Hi","chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"No"}]}
{"chosen":"\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: So?\n\nAssistant: Good","rejected":"\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: So?\n\nAssistant: Bad"}
{"conversations":[{"from":"human","value":"Hi"}],"chosen":{"from":"gpt","value":"Ho"},"rejected":{"from":"gpt","value":"No"}}
{"instruction":"Add","input":"2+2","chosen":"4","rejected":"5"}
{"input":"Hi","preferred_completion":"Ho","non_preferred_completion":[{"role":"assistant","content":"No"}]}
{"chosen":"Ho","rejected":"No"}
{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}"#,
        expect![[r#"
            trl
            {"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", "content": "Hello!"}], "non_preferred_output": [{"role": "assistant", "content": "what"}]}
            {"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", "content": "Ho"}], "non_preferred_output": [{"role": "assistant", "content": "No"}]}
            {"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", "content": "Ho"}], "non_preferred_output": [{"role": "assistant", "content": "No"}]}
            {"input": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "So?"}]}, "preferred_output": [{"role": "assistant", "content": "Good"}], "non_preferred_output": [{"role": "assistant", "content": "Bad"}]}
            {"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", "content": "Ho"}], "non_preferred_output": [{"role": "assistant", "content": "No"}]}
            {"input": {"messages": [{"role": "user", "content": "Add\n2+2"}]}, "preferred_output": [{"role": "assistant", "content": "4"}], "non_preferred_output": [{"role": "assistant", "content": "5"}]}
            {"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", "content": "Ho"}], "non_preferred_output": [{"role": "assistant", "content": "No"}]}
            1:60: warning[field-left-out] /score: left out `score`, which has no place in the output
            8:1: error[record-refused]: expected a prompt, found two answers with nothing in common
            9:1: error[record-refused]: expected a preference pair, as in the records before (trl), found a conversation
        "#]],
    );
}

#[test]
fn rendered_texts_are_taken_apart() {
    check(
        r####"{"text":"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"}
{"text":"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"}
{"text":"<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nHi [/INST] Ho </s><s>[INST] Again [/INST] Ha </s>"}
{"text":"<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>"}
{"text":"<|user|>\nHi</s>\n<|assistant|>\nHo</s>"}
{"text":"### Human: Hi### Assistant: Ho"}
{"text":"Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd\n\n### Input:\n2+2\n\n### Response:\n4"}
{"text":"Once upon a time, User: said nothing."}"####,
        expect![[r#"
            text
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "Ha"}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "user", "content": "Add\n2+2"}, {"role": "assistant", "content": "4"}]}
            8:9: error[record-refused] /text: expected a text with the marks of a chat template, found none that is known
        "#]],
    );
}

#[test]
fn batch_lines_take_their_answer_along() {
    check(
        r#"{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","temperature":0,"messages":[{"role":"user","content":"Capital of France?"}]},"response":{"status_code":200,"body":{"choices":[{"message":{"role":"assistant","content":"Paris.","annotations":[]}}]}}}
{"custom_id":"r2","body":{"input":"Hi"},"response":{"body":{"output":[{"type":"message","id":"m1","role":"assistant","content":[{"type":"output_text","text":"Ho"}]}]}}}
{"custom_id":"r3","params":{"model":"c","max_tokens":9,"system":"S","messages":[{"role":"user","content":"Hi"}]},"result":{"type":"succeeded","message":{"id":"x","role":"assistant","content":[{"type":"text","text":"Ho"}],"usage":{"input_tokens":1}}}}
{"custom_id":"r4","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"Alone"}]}}
{"id":"b","custom_id":"r5","response":{"body":{"choices":[]}},"error":null}
{"id":"b","custom_id":"r6","response":null,"error":{"code":"expired"}}"#,
        expect![[r#"
            batch
            {"messages": [{"role": "user", "content": "Capital of France?"}, {"role": "assistant", "content": "Paris."}]}
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            1:80: warning[field-left-out] /body/model: left out `body.model`, which has no place in the output
            1:98: warning[field-left-out] /body/temperature: left out `body.temperature`, which has no place in the output
            3:37: warning[field-left-out] /params/model: left out `body.model`, which has no place in the output
            3:54: warning[field-left-out] /params/max_tokens: left out `body.max_tokens`, which has no place in the output
            4:1: error[missing-assistant-message]: once converted at /messages: expected an assistant message to learn, found none
            5:1: error[record-refused]: expected the request in `body`, found an answer alone
            6:52: error[record-refused] /error: expected an answer, found an error
        "#]],
    );
}

#[test]
fn responses_are_converted() {
    check(
        r#"{"instructions":"S","input":[{"role":"user","content":[{"type":"input_text","text":"What is it?"},{"type":"input_image","image_url":"https://example.com/a.png","detail":"low"}]},{"type":"reasoning","summary":[]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Let me see."}]},{"type":"function_call","id":"fc_1","call_id":"c1","name":"look","arguments":"{\"at\":1}"},{"type":"function_call_output","call_id":"c1","output":"a cat"}],"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"A cat."}]}],"tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{"at":{"type":"integer"}}},"strict":true},{"type":"web_search"}]}
{"input":[{"type":"web_search_call","id":"w"}]}"#,
        expect![[r#"
            responses
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}]}, {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}}]}, {"role": "tool", "content": "a cat", "tool_call_id": "c1"}, {"role": "assistant", "content": "A cat."}], "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}, "strict": true}}]}
            1:179: warning[field-left-out] /input/1: left out `input[].reasoning`, which has no place in the output
            1:690: warning[field-left-out] /tools/1: left out `tools[]`, which has no place in the output
            2:11: error[record-refused] /input/0: expected a message or a call of a function, found `web_search_call`
        "#]],
    );
}

#[test]
fn gemini_is_converted() {
    check(
        r#"{"systemInstruction":{"role":"system","parts":[{"text":"S"}]},"contents":[{"role":"user","parts":[{"text":"Weather in "},{"text":"Rome?"}]},{"role":"model","parts":[{"functionCall":{"name":"weather","args":{"city":"Roma ñ"}}}]},{"role":"function","parts":[{"functionResponse":{"name":"weather","response":{"c":20}}}]},{"role":"model","parts":[{"text":"20."}]}],"tools":[{"functionDeclarations":[{"name":"weather","description":"W","parameters":{"type":"OBJECT","properties":{"city":{"type":"STRING"}}}}]}],"generationConfig":{"temperature":0}}
{"contents":[{"role":"user","parts":[{"inline_data":{"mime_type":"image/png","data":"iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="}},{"text":"What?"}]},{"role":"model","parts":[{"text":"Dots."}]}]}
{"contents":[{"role":"user","parts":[{"fileData":{"mimeType":"image/png","fileUri":"gs://b/a.png"}}]},{"role":"model","parts":[{"text":"Dots."}]}]}"#,
        expect![[r#"
            gemini
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather in Rome?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Roma ñ\"}"}}]}, {"role": "tool", "content": "{\"c\": 20}", "tool_call_id": "call_1"}, {"role": "assistant", "content": "20."}], "tools": [{"type": "function", "function": {"name": "weather", "description": "W", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="}}, {"type": "text", "text": "What?"}]}, {"role": "assistant", "content": "Dots."}]}
            1:526: warning[field-left-out] /generationConfig: left out `generationConfig`, which has no place in the output
            3:50: error[record-refused] /contents/0/parts/0/fileData: expected the URL or data URI of an image, found `gs://b/a.png`
        "#]],
    );
}

#[test]
fn anthropic_is_converted() {
    check(
        r#"{"system":[{"type":"text","text":"S","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"Weather in Rome?"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"I look."},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Rome"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"20"}]},{"type":"text","text":"And?"}]},{"role":"assistant","content":[{"type":"text","text":"20."}]}],"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]}
{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},{"type":"text","text":"What?"}]},{"role":"assistant","content":"A cat."}]}
{"schemaVersion":"bedrock-conversation-2024","system":[{"text":"S"}],"messages":[{"role":"user","content":[{"text":"Hi"}]},{"role":"assistant","content":[{"text":"Ho"}]}]}
{"system":"S","messages":[{"role":"user","content":[{"type":"document","source":{}}]},{"role":"assistant","content":"x"}]}"#,
        expect![[r#"
            anthropic
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather in Rome?"}, {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]}, {"role": "tool", "content": "20", "tool_call_id": "toolu_1"}, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "20."}], "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, {"type": "text", "text": "What?"}]}, {"role": "assistant", "content": "A cat."}]}
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
            1:54: warning[field-left-out] /system/0/cache_control: left out `messages[].content[].cache_control`, which has no place in the output
            1:165: warning[field-left-out] /messages/1/content/0: left out `messages[].content[].thinking`, which has no place in the output
            3:18: warning[field-left-out] /schemaVersion: left out `schemaVersion`, which has no place in the output
            4:53: error[record-refused] /messages/0/content/0: expected text, an image or a call, found a part of type `document`
        "#]],
    );
}

#[test]
fn broken_records_are_refused_where_they_break() {
    check(
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\",\"completion\":\"b\",}\n{\"prompt\":\"a\nid,text\n\u{FEFF}{\"prompt\":\"a\",\"completion\":\"\\ud83d\"}\n{\"x\":1}\n{\"prompt\":\"a\",\"prompt\":\"c\",\"completion\":\"b\"}\n7",
        expect![[r#"
            prompt-completion
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
            {"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "b"}]}
            2:31: error[trailing-comma]: expected another value after `,`, found `}`
            3:13: error[truncated-line] /prompt: the record ends inside a string
            4:1: error[invalid-json]: expected a value, found `id`
            5:29: error[lone-surrogate] /completion: expected a surrogate pair, found `\ud83d` alone
            6:1: error[record-refused]: expected a record in a known format, found none that its keys tell
            7:15: warning[duplicate-key] /prompt: expected each name once, found `prompt` again
            8:1: error[record-refused]: expected a record in a known format, found none that its keys tell
        "#]],
    );
}

#[test]
fn columns_inside_an_array_are_those_of_the_file() {
    check(
        r#"[{"prompt":"a","completion":"b"}, {"prompt":"é","completion":7}]"#,
        expect![[r#"
        prompt-completion
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        1:62: error[record-refused] /completion: expected a text or a list of messages, found a number
    "#]],
    );
}

#[test]
fn what_is_no_text_is_refused() {
    let mut source: &[u8] = b"PK\x03\x04....";
    let error = convert(&mut source, "a.zip", None, Separators::default(), &mut Vec::new(), &mut |_| {}).unwrap_err();
    expect!["`a.zip`: expected JSONL text, found a zip archive or an Office document"].assert_eq(&error.to_string());
    let mut source: &[u8] = b"{\"prompt\":\"caf\xE9\",\"completion\":\"b\"}";
    let mut notes = Vec::new();
    convert(&mut source, "a.jsonl", None, Separators::default(), &mut Vec::new(), &mut |note| notes.push(note))
        .unwrap();
    expect![[r#"
        a.jsonl:1:1: error[record-refused]: expected UTF-8, found other bytes
          hint: save the file as UTF-8: `iconv -f WINDOWS-1252 -t UTF-8 IN > OUT`"#]]
    .assert_eq(&notes[0].to_string());
}

#[test]
fn fields_without_a_place_are_counted() {
    let line = "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":1,\"meta\":{}}\n";
    let (done, ..) = run(line.repeat(3).as_bytes(), Some(Format::Trl));
    assert_eq!(done.left_out.into_iter().collect::<Vec<_>>(), [("id".to_owned(), 3)]);
    assert_eq!((done.records, done.written, done.format), (3, 3, Some(Format::Trl)));
}

#[test]
fn any_bytes_are_converted_or_refused_and_what_is_written_is_valid() {
    let source = include_str!("tests.rs");
    let seeds: Vec<&str> = source.lines().map(str::trim).filter(|line| line.contains("{\"")).collect();
    let seeds: Vec<&str> = seeds.iter().map(|line| line.trim_start_matches("r#\"")).collect();
    assert!(seeds.len() > 30);
    let mut random = Random(7);
    let mut written = 0;
    for round in 0..20_000 {
        let mut bytes = mutate(seeds[round % seeds.len()].as_bytes(), &mut random);
        bytes.push(b'\n');
        bytes.extend(mutate(seeds[random.below(seeds.len())].as_bytes(), &mut random));
        let from = if round % 3 == 0 { Some(Format::ALL[round / 3 % Format::ALL.len()]) } else { None };
        let (mut out, mut count) = (Vec::new(), 0);
        let done = convert(&mut &*bytes, "x", from, Separators::default(), &mut out, &mut |_| count += 1);
        let Ok(done) = done else { continue };
        assert!(count >= done.refused);
        assert_eq!(done.written, out.iter().filter(|&&byte| byte == b'\n').count());
        check_written(&out);
        written += done.written;
    }
    assert!(written > 2000, "{written}");
}
