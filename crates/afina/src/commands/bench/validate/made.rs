//! A file to time, made of the example data: its texts drawn anew for each record, so that hardly one repeats another.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};
use tempfile::{Builder, NamedTempFile};

const CHATS: [&str; 2] =
    [include_str!("../../../../../../data/marv.jsonl"), include_str!("../../../../../../data/router/train.jsonl")];
const TOOLS: &str = include_str!("../../../../../../data/tools.jsonl");

/// One record in so many ends with a row with tools.
const TOOLS_EVERY: usize = 10;

/// A file of `bytes` bytes, and up to a record more, which goes when the value is dropped.
pub fn file(bytes: u64) -> io::Result<NamedTempFile> {
    let file = Builder::new().prefix("afina-bench-").suffix(".jsonl").tempfile()?;
    let mut out = BufWriter::new(file.as_file());
    write(bytes, &mut out)?;
    out.flush()?;
    drop(out);
    Ok(file)
}

fn write(bytes: u64, out: &mut impl Write) -> io::Result<()> {
    let texts: Vec<String> = CHATS.iter().flat_map(|data| records(data)).flat_map(texts_of).collect();
    let tools: Vec<Value> = records(TOOLS).collect();
    let mut random = Random(1);
    let (mut written, mut index) = (0, 0);
    while written < bytes {
        let line = record(index, &texts, &tools, &mut random).to_string() + "\n";
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        index += 1;
    }
    Ok(())
}

fn records(data: &str) -> impl Iterator<Item = Value> {
    data.lines().map(|line| serde_json::from_str(line).expect("the example data is JSON"))
}

/// Texts of users and assistants that are more than a word.
fn texts_of(record: Value) -> Vec<String> {
    let messages = record["messages"].as_array().into_iter().flatten();
    let texts =
        messages.filter(|message| message["role"] != "system").filter_map(|message| message["content"].as_str());
    texts.filter(|text| text.contains(' ')).map(str::to_owned).collect()
}

fn record(index: usize, texts: &[String], tools: &[Value], random: &mut Random) -> Value {
    let mut record = match index % TOOLS_EVERY {
        0 => tools[random.below(tools.len())].clone(),
        _ => json!({ "messages": [{ "role": "system", "content": "Contesta con brevedad. Answer briefly." }] }),
    };
    let messages = record["messages"].as_array_mut().expect("a record has messages");
    let mut turns = Vec::new();
    for _ in 0..3 + random.below(6) {
        for (role, least) in [("user", 1), ("assistant", 2)] {
            let drawn: Vec<&str> = (0..least + random.below(2)).map(|_| &*texts[random.below(texts.len())]).collect();
            turns.push(json!({ "role": role, "content": drawn.join(" ") }));
        }
    }
    // Behind the instructions, and before what the row has of its own.
    let at = messages.iter().take_while(|message| message["role"] == "system").count();
    messages.splice(at..at, turns);
    record
}

/// SplitMix64 (Steele, Lea, Flood, 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use afina_data::{Item, Method, Profile, ReadOptions, read};

    use super::*;

    #[test]
    fn the_file_has_its_size_and_is_good() {
        let mut made = Vec::new();
        write(2_000_000, &mut made).unwrap();
        assert!((2_000_000..2_020_000).contains(&made.len()), "{}", made.len());
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let options = ReadOptions::new(Method::Sft, Profile::OpenAi);
        let summary = read(&mut &made[..], "made.jsonl", &options, &mut |item| {
            if let Item::Diagnostic(diagnostic) = item {
                *found.entry(diagnostic.rule).or_default() += 1;
            }
        });
        let summary = summary.unwrap();
        assert_eq!(summary.valid, summary.examples);
        assert!(summary.warnings * 100 < summary.examples, "{found:?}");
        assert!(!found.contains_key("duplicate-example"), "{found:?}");
    }
}
