//! What holds of a fix, whatever the file.

use std::collections::{HashMap, HashSet};

use super::{tests::fixed, *};
use crate::{
    Example, Group, Method, Profile, Severity, rules,
    testing::{Random, mutate, read_all},
};

const SEEDS: [&str; 11] = [
    "{\"messages\":[{\"role\":\"user\",\"content\":\"¿Qué?\"},{\"role\":\"assistant\",\"content\":\"Hello.\"}]}\n{\"messages\":[{\"role\":\"user\",\"content\":\"a\\n\\u00e9 \\ud83d\\ude00\"},{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0}]}\n",
    "{\n  \"messages\": [\n    {\"role\": \"user\", \"content\": \"Hi\"},\n    {\"role\": \"assistant\", \"content\": \"b\"}\n  ]\n}\n{\"messages\":[]}\n",
    "[{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]},\n{\"messages\":[1]}]\n",
    "{'messages': [{'role': 'user', 'content': 'it\\'s'}, {'role': 'assistant', 'content': None}]}\n\n# end\n",
    "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]},{\"role\":\"tool\",\"content\":\"1\"}],\"tools\":[{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}]}",
    "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\",\"image_url\":\"u\"}]}]},\"preferred_output\":[{\"role\":\"assistant\",\"content\":\"a\"}],\"non_preferred_completion\":{\"content\":\"b\"}}\n",
    "\u{FEFF}{\"a/b\":{\"~\":[NaN,]}} {\"messages\":\"[{}]\"}\r\n",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"cafÃ© \u{FFFD}\u{202E} {{x}} <|im_end|> one\\\\ntwo\"}]}\r{\"prompt\":\"a\",\"completion\":\"b\"}\r",
    "{\"messages\":[{\"role\":\"human\",\"content\":1,\"id\":2},{\"from\":\"gpt\",\"value\":\" b \",\"weight\":1.0},{\"role\":\"user\",\"content\":null}],\"x\":{}}\n{\"messages\":[{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\"}]}\n",
    "[\n  {\n    \"messages\": [\n      {\"role\": \"user\", \"content\": {\"a\": 1}},\n      {\"role\": \"assistant\", \"content\": \"b\"},\n    ]\n  }\n]\n",
    "{\"messages\":[{\"rol\":\"user\",\"contenido\":\"the \"big\" 7\"},{\"role\":\"assistant\",\"wieght\":0,\"content\":NaN}]}\n{\"messages\":[{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\"}]\n{}\n",
];

fn options(index: usize) -> ReadOptions {
    let method = [Method::Sft, Method::Dpo, Method::Rft][index % 3];
    ReadOptions::new(method, [Profile::OpenAi, Profile::Azure, Profile::Together, Profile::Local][index % 4])
}

/// The errors of records, by line.
fn errors(data: &[u8], options: &ReadOptions) -> HashSet<(usize, &'static str)> {
    let about_files: HashSet<&str> =
        rules().iter().filter(|rule| rule.group == Group::Dataset).map(|rule| rule.id).collect();
    let mut options = options.clone();
    options.ignored.insert("mixed-formats".to_owned());
    let found = read_all(data, &options).0.into_iter().filter(|found| found.severity == Severity::Error);
    // That formats are mixed is said of a record in place of its own faults: which that is depends on all others.
    let of_format = |id: &str| rules().iter().any(|rule| rule.id == id && rule.group == Group::Format);
    let about_file = |id: &str| about_files.contains(id) || id == "file-empty" || of_format(id);
    found.filter(|found| !about_file(found.rule)).map(|found| (found.line, found.rule)).collect()
}

fn lines(data: &[u8]) -> Vec<&[u8]> {
    data.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

fn check_any(data: &[u8], options: &ReadOptions, unsafe_fixes: bool) {
    let shown = || format!("{:?} {options:?} unsafe: {unsafe_fixes}", String::from_utf8_lossy(data));
    let (out, log, summary) = fixed(data, options, unsafe_fixes);
    let (again, log_again, _) = fixed(&out, options, unsafe_fixes);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&again), text(&out), "a second fix changes nothing: {}", shown());
    let is_change = |item: &&FixItem| matches!(item, FixItem::Change(_));
    assert_eq!(log_again.iter().find(is_change), None, "{}", shown());

    let changes: Vec<&Change> =
        log.iter().filter_map(|item| if let FixItem::Change(change) = item { Some(change) } else { None }).collect();
    assert_eq!(summary.changes, changes.len());
    assert_eq!(summary.left, log.len() - changes.len());
    if changes.is_empty() {
        assert_eq!(text(&out), text(data), "without a change nothing changes");
    }
    if !unsafe_fixes {
        assert!(changes.iter().all(|change| change.safety == Safety::Safe) && summary.removed == 0, "{}", shown());
        check_nothing_lost(data, &out, &changes, options);
    }
    // Where a line is no JSON, the reader may take it together with others.
    let of_bytes = |id: &str| rules().iter().any(|rule| rule.id == id && rule.group == Group::Bytes);
    let broken = log.iter().any(|item| matches!(item, FixItem::Left { found, .. } if of_bytes(found.rule)));
    if !broken {
        let left: HashSet<_> = log
            .iter()
            .filter_map(|item| match item {
                FixItem::Left { found, output_line } => Some((*output_line, found.rule)),
                _ => None,
            })
            .collect();
        assert_eq!(
            errors(&out, options).difference(&left).collect::<Vec<_>>(),
            Vec::<&(usize, &str)>::new(),
            "{}",
            shown()
        );
    }
}

/// Examples stay, and lines without a change are the same bytes.
fn check_nothing_lost(data: &[u8], out: &[u8], changes: &[&Change], options: &ReadOptions) {
    let shown = || format!("{:?} → {:?}", String::from_utf8_lossy(data), String::from_utf8_lossy(out));
    let told = |example: &Example| serde_json::to_string(example.conversation()).unwrap();
    let mut after = HashMap::<String, usize>::new();
    read_all(out, options).1.iter().for_each(|example| *after.entry(told(example)).or_default() += 1);
    let (_, before, summary) = read_all(data, options);
    for example in &before {
        // A name or a role may have been corrected without an error to ask for it.
        if changes.iter().any(|change| change.line == example.line()) {
            continue;
        }
        let count = after.get_mut(&told(example)).filter(|count| **count > 0);
        *count.unwrap_or_else(|| panic!("an example is lost: {}", shown())) -= 1;
    }
    assert!(read_all(out, options).1.len() >= before.len(), "{}", shown());
    let wide = changes.iter().any(|change| matches!(change.rule, "file-utf16" | "bare-cr-line-endings"));
    if summary.examples > 0 && !wide {
        let known: HashSet<&[u8]> = lines(data).into_iter().collect();
        let changed: HashSet<usize> = changes.iter().filter_map(|change| change.output_line).collect();
        for (index, line) in lines(out).into_iter().enumerate() {
            assert!(
                line.is_empty() || changed.contains(&(index + 1)) || known.contains(line),
                "line {}: {}",
                index + 1,
                shown()
            );
        }
    }
}

#[test]
fn any_file_is_mended_once_and_loses_nothing_by_safe_fixes() {
    let mut random = Random(3);
    let mut bad = 0;
    for round in 0..6000 {
        let data = mutate(SEEDS[round % SEEDS.len()].as_bytes(), &mut random);
        let o = options(round / SEEDS.len());
        if std::panic::catch_unwind(|| check_any(&data, &o, round % 2 == 0)).is_err() {
            bad += 1;
        }
        assert!(bad < 12);
    }
    for round in 0..1000 {
        let data: Vec<u8> = (0..random.below(60)).map(|_| random.below(256) as u8).collect();
        check_any(&data, &options(round), round % 2 == 0);
    }
}

#[test]
fn the_seeds_themselves() {
    for (round, seed) in SEEDS.iter().enumerate() {
        for method in 0..12 {
            check_any(seed.as_bytes(), &options(method), round % 2 == 0);
            check_any(seed.as_bytes(), &options(method), round % 2 == 1);
        }
    }
}
