//! The figures as text for the terminal.

use std::fmt::Write;

use super::{Billing, COUNTED_RULES, Cost, Named, Packing, PairReport, StatisticsReport, TokenReport};
use crate::number::{counted, grouped};

/// Columns of the longest bar.
const BAR: usize = 40;

/// The figures in plain words, 40 lines at most, each ended.
pub fn render_statistics(report: &StatisticsReport) -> String {
    let mut text = String::new();
    render_shape(report, &mut text);
    if let Some(pairs) = &report.pairs {
        render_pairs(pairs, &mut text);
    }
    render_repeats(report, &mut text);
    if let Some(tokens) = &report.tokens {
        render_tokens(tokens, &mut text);
        if let Some(packing) = &tokens.packing {
            render_packing(packing, &mut text);
        }
    } else if report.no_tokenizer && report.shape.examples > 0 {
        line(&mut text, "tokens", "not counted: give --model DIR or --tokenizer NAME");
    }
    if let Some(billing) = &report.billing {
        render_billing(billing, &mut text);
    }
    text
}

fn line(text: &mut String, label: &str, value: impl AsRef<str>) {
    let _ = writeln!(text, "{label:<12} {}", value.as_ref());
}

fn render_shape(report: &StatisticsReport, text: &mut String) {
    let shape = &report.shape;
    if shape.examples == 0 {
        return;
    }
    let [fewest, middle, most] = shape.turns;
    let answers = if fewest == most { format!("{most}") } else { format!("{fewest} to {most} (median {middle})") };
    let messages = counted(shape.messages, "message", "messages");
    let examples = counted(shape.examples, "example", "examples");
    line(text, "counted", format!("{examples} with {messages}; answers in each: {answers}"));
    line(text, "roles", list(&shape.roles, 6));
    line(
        text,
        "system",
        format!("{} of {} examples have a system message", number(shape.with_system), number(shape.examples)),
    );
    if shape.with_tools > 0 || shape.with_calls > 0 {
        line(
            text,
            "tools",
            format!("{} examples declare tools: {}", number(shape.with_tools), list(&shape.tools_declared, 4)),
        );
        line(
            text,
            "tool calls",
            format!("{} examples call tools: {}", number(shape.with_calls), list(&shape.tools_called, 4)),
        );
    }
    if shape.images > 0 {
        line(text, "images", format!("{} in {} examples", number(shape.images), number(shape.with_images)));
    }
    if !shape.languages.is_empty() {
        let unclear =
            if shape.undetermined > 0 { format!(", unclear {}", number(shape.undetermined)) } else { String::new() };
        line(text, "languages", list(&shape.languages, 5) + &unclear);
    }
}

fn render_pairs(pairs: &PairReport, text: &mut String) {
    let range = |range: [u32; 3], what: &str| {
        let [least, middle, most] = range.map(|value| number(value as usize));
        if least == most { format!("{most}{what}") } else { format!("{least} to {most}{what} (median {middle})") }
    };
    line(
        text,
        "pairs",
        format!("{} counted; messages in each prompt: {}", number(pairs.pairs), range(pairs.prompt_messages, "")),
    );
    line(text, "prompts", range(pairs.prompt_characters, " characters"));
    line(text, "preferred", range(pairs.preferred_characters, " characters"));
    let longer =
        format!("the preferred one is longer in {} of {}", number(pairs.preferred_longer), number(pairs.pairs));
    line(text, "other", format!("{}; {longer}", range(pairs.other_characters, " characters")));
}

fn render_repeats(report: &StatisticsReport, text: &mut String) {
    let counts = COUNTED_RULES.iter().zip(report.repeats.counts());
    let found: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|((_, one, many), count)| counted(count, one, many)).collect();
    if !found.is_empty() {
        line(text, "found", found.join(", "));
    }
    // Of what was not read nothing is said.
    if !report.not_found.is_empty() && (report.shape.examples > 0 || report.pairs.is_some()) {
        line(text, "not found", report.not_found.join(", "));
    }
}

fn render_tokens(tokens: &TokenReport, text: &mut String) {
    let share = 100.0 * tokens.trained as f64 / tokens.total.max(1) as f64;
    line(
        text,
        "tokens",
        format!("{} in all, {} of them trained ({share:.1} %)", number64(tokens.total), number64(tokens.trained)),
    );
    line(
        text,
        "an example",
        format!(
            "{:.0} tokens in the middle (p50); p5 {:.0}, p95 {:.0}, p99 {:.0}, longest {} (line {})",
            tokens.p50,
            tokens.p5,
            tokens.p95,
            tokens.p99,
            number(tokens.max as usize),
            tokens.longest_line
        ),
    );
    let most = tokens.histogram.iter().map(|bar| bar.examples).max().unwrap_or(0).max(1);
    let width = |value: u32| number(value as usize).len();
    let digits = tokens.histogram.iter().map(|bar| width(bar.to)).max().unwrap_or(0);
    for bar in &tokens.histogram {
        // At least a thin mark where there is something.
        let eighths = (bar.examples * BAR * 8).div_ceil(most);
        let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        let drawn = "█".repeat(eighths / 8) + partial;
        let (from, to) = (number(bar.from as usize), number(bar.to as usize));
        let count = number(bar.examples);
        let space = if drawn.is_empty() { "" } else { " " };
        let _ = writeln!(text, "  {from:>digits$} – {to:>digits$} │{drawn}{space}{count}");
    }
}

fn render_packing(packing: &Packing, text: &mut String) {
    let seq_len = number(packing.seq_len as usize);
    if packing.over_length == 0 {
        line(text, "too long", format!("no example is longer than {seq_len} tokens"));
    } else {
        let examples = counted(packing.over_length, "example is", "examples are");
        let mut message = match packing.local {
            true => format!("{examples} longer than {seq_len} tokens: `afina train` refuses the file"),
            false => format!(
                "{examples} longer than {seq_len} tokens; a cut would lose {} trained tokens",
                number64(packing.trained_lost)
            ),
        };
        if packing.without_trained > 0 && !packing.local {
            let _ = write!(message, ", and {} would keep none", number(packing.without_trained));
        }
        line(text, "too long", message);
        let lines: Vec<String> =
            packing.over_length_examples.iter().take(10).map(|over| over.line.to_string()).collect();
        if !lines.is_empty() {
            let more = if packing.over_length_examples.len() > lines.len() { " …" } else { "" };
            line(
                text,
                "",
                format!("in {} {}{more}", if lines.len() == 1 { "line" } else { "lines" }, lines.join(", ")),
            );
        }
    }
    if packing.rows > 0 {
        let without = match packing.over_length {
            0 => String::new(),
            over => format!("; {} left out", counted(over, "example", "examples")),
        };
        line(
            text,
            "packing",
            format!(
                "{} of {seq_len} tokens, {:.1} % full (one example a row: {:.1} %){without}",
                counted(packing.rows, "row", "rows"),
                100.0 * packing.efficiency,
                100.0 * packing.unpacked_efficiency
            ),
        );
    }
}

fn render_billing(billing: &Billing, text: &mut String) {
    let Billing { epochs, billed_tokens, max_tokens_per_example, currency, costs, .. } = billing;
    let epochs = counted(*epochs, "epoch", "epochs");
    let mut billed = |billed_tokens: u64, most: u32, costs: &[&Cost]| {
        let tokens = number64(billed_tokens);
        line(text, "billed", format!("{tokens} tokens: {epochs}, at most {} tokens an example", number(most as usize)));
        let shown: Vec<String> = costs.iter().take(6).map(|cost| format!("{} {:.2}", cost.model, cost.cost)).collect();
        if !shown.is_empty() {
            line(text, "cost", format!("in {currency}: {}", shown.join(", ")));
        }
    };
    // Models that take as many tokens of an example are billed as many.
    let mut rest: Vec<&Cost> = costs.iter().collect();
    if rest.is_empty() {
        billed(*billed_tokens, *max_tokens_per_example, &[]);
    }
    while let Some(first) = rest.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|cost| cost.billed_tokens == first.billed_tokens);
        billed(first.billed_tokens, first.max_tokens_per_example, &same);
        rest = others;
    }
}

/// `user 120, assistant 90, 3 more`
fn list(names: &[Named], limit: usize) -> String {
    let mut parts: Vec<String> = names
        .iter()
        .take(limit)
        .map(|named| format!("{} {}", crate::diagnostic::excerpt(&named.name), number(named.count)))
        .collect();
    if names.len() > limit {
        parts.push(format!("{} more", names.len() - limit));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn number(number: usize) -> String {
    number64(number as u64)
}

fn number64(number: u64) -> String {
    grouped(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stats::{Price, Prices, ReportOptions, Statistics, TokenCounts};

    /// A file of `count` chats with lengths from 20 tokens to 900, and one of 5,000.
    fn statistics(count: usize) -> Statistics {
        let mut statistics = Statistics::default();
        let record = serde_json::json!({"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]});
        let conversation = serde_json::from_value(record).unwrap();
        for index in 0..count {
            statistics.shape.add(&conversation, Some(if index % 3 == 0 { "es" } else { "en" }));
            let total = if index == 70 { 5000 } else { 20 + (index * index % 881) as u32 };
            let trained_kept = if index == 70 { 100 } else { total / 2 };
            statistics.tokens.add(index + 1, TokenCounts { total, trained: total / 2, trained_kept });
        }
        statistics
    }

    fn options() -> ReportOptions {
        let models = BTreeMap::from([("gpt-4o-mini".to_owned(), Price { training_per_million: 3.0 })]);
        let prices = Some(Prices { currency: "USD".into(), models });
        let checked = COUNTED_RULES.map(|(rule, ..)| rule).into_iter().filter(|rule| !rule.contains("validation"));
        ReportOptions {
            seq_len: Some(2048),
            billed_per_example: 4096,
            prices,
            local: false,
            checked: checked.collect(),
        }
    }

    #[test]
    fn figures_read_as_plain_words() {
        let text = render_statistics(&statistics(1000).report(&options()));
        expect_test::expect![[r#"
            counted      1,000 examples with 3,000 messages; answers in each: 1
            roles        assistant 1,000, system 1,000, user 1,000
            system       1,000 of 1,000 examples have a system message
            languages    en 666, es 334
            not found    exact copies, near copies, answers that contradict an earlier one, texts with secrets, texts with personal data
            tokens       458,447 in all, 228,975 of them trained (49.9 %)
            an example   455 tokens in the middle (p50); p5 56, p95 860, p99 893, longest 5,000 (line 71)
                 16 –    31 │██▎ 24
                 32 –    63 │███▉ 41
                 64 –   127 │███████▊ 82
                128 –   255 │█████████████▉ 147
                256 –   511 │██████████████████████████▏ 278
                512 – 1,023 │████████████████████████████████████████ 427
              1,024 – 2,047 │0
              2,048 – 4,095 │0
              4,096 – 8,191 │▏ 1
            too long     1 example is longer than 2,048 tokens; a cut would lose 2,400 trained tokens
                         in line 71
            packing      222 rows of 2,048 tokens, 99.7 % full (one example a row: 22.2 %); 1 example left out
            billed       1,375,341 tokens: 3 epochs, at most 65,536 tokens an example
            cost         in USD: gpt-4o-mini 4.13
        "#]]
        .assert_eq(&text);
        assert!(text.lines().count() <= 40);
    }

    #[test]
    fn what_was_not_counted_is_not_shown() {
        assert_eq!(render_statistics(&Statistics::default().report(&options())), "");
    }

    #[test]
    fn pairs_are_told_by_their_lengths() {
        let mut statistics = Statistics::default();
        for length in [10, 40, 1200] {
            statistics.pairs.add(crate::stats::PairShape {
                prompt_messages: 1,
                prompt_characters: length,
                preferred_characters: length + 5,
                other_characters: 30,
            });
        }
        expect_test::expect![[r#"
            pairs        3 counted; messages in each prompt: 1
            prompts      10 to 1,200 characters (median 40)
            preferred    15 to 1,205 characters (median 45)
            other        30 characters; the preferred one is longer in 2 of 3
            not found    exact copies, near copies, answers that contradict an earlier one, texts with secrets, texts with personal data
        "#]].assert_eq(&render_statistics(&statistics.report(&options())));
    }

    #[test]
    fn training_here_has_no_bill_and_no_cut() {
        let options = ReportOptions { local: true, prices: None, ..options() };
        let text = render_statistics(&statistics(100).report(&options));
        let end: String =
            text.lines().skip_while(|line| !line.starts_with("too long")).map(|line| format!("{line}\n")).collect();
        expect_test::expect![[r#"
            too long     1 example is longer than 2,048 tokens: `afina train` refuses the file
                         in line 71
            packing      20 rows of 2,048 tokens, 95.5 % full (one example a row: 19.3 %); 1 example left out
        "#]]
        .assert_eq(&end);
    }

    #[test]
    fn what_was_found_is_told_apart_from_what_was_not() {
        let mut statistics = statistics(2);
        let (found, ..) =
            crate::testing::read_all(b"{}", &crate::ReadOptions::new(crate::Method::Sft, crate::Profile::Local));
        for rule in ["duplicate-example", "secret-detected", "secret-detected", "missing-role"] {
            statistics.add_diagnostic(&crate::Diagnostic { rule, ..found[0].clone() });
        }
        statistics.tokens = Default::default();
        expect_test::expect![[r#"
            counted      2 examples with 6 messages; answers in each: 1
            roles        assistant 2, system 2, user 2
            system       2 of 2 examples have a system message
            languages    en 1, es 1
            found        1 exact copy, 2 texts with secrets
            not found    near copies, answers that contradict an earlier one, texts with personal data
            tokens       not counted: give --model DIR or --tokenizer NAME
        "#]]
        .assert_eq(&render_statistics(&statistics.report(&options())));
    }

    #[test]
    fn the_report_as_json_has_names_that_last() {
        let json = serde_json::to_value(statistics(3).report(&options())).unwrap();
        let keys: Vec<&str> = json["tokens"].as_object().unwrap().keys().map(String::as_str).collect();
        expect_test::expect!["examples total trained min p5 p50 p95 p99 max mean longest_line histogram packing"]
            .assert_eq(&keys.join(" "));
        assert_eq!(json["billing"]["epochs"], 25);
        assert_eq!(json["roles"][0]["name"], "assistant");
    }
}
