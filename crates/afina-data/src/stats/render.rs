//! The figures as text for the terminal.

use std::fmt::Write;

use super::{Billing, Named, Packing, StatisticsReport, TokenReport};

/// Columns of the longest bar.
const BAR: usize = 40;

/// The figures in plain words, 40 lines at most, each ended.
pub fn render_statistics(report: &StatisticsReport) -> String {
    let mut text = String::new();
    render_shape(report, &mut text);
    render_repeats(report, &mut text);
    if let Some(tokens) = &report.tokens {
        render_tokens(tokens, &mut text);
        if let Some(packing) = &tokens.packing {
            render_packing(packing, &mut text);
        }
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
    let answers =
        if fewest == most { format!("{most}") } else { format!("{fewest} to {most}, half have up to {middle}") };
    line(
        text,
        "examples",
        format!("{} with {} messages; answers in each: {answers}", number(shape.examples), number(shape.messages)),
    );
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

fn render_repeats(report: &StatisticsReport, text: &mut String) {
    let repeats = &report.repeats;
    let parts = [
        (repeats.exact_duplicates, "exact copies"),
        (repeats.near_duplicates, "near copies"),
        (repeats.conflicting_answers, "contradict an earlier answer"),
        (repeats.in_validation, "also in the validation file"),
        (repeats.secrets, "secrets"),
        (repeats.personal_data, "personal data"),
    ];
    let found: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", number(*count)))
        .collect();
    if !found.is_empty() {
        line(text, "repeats", found.join(", "));
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
        let mut message = format!(
            "{examples} longer than {seq_len} tokens; a cut would lose {} trained tokens",
            number64(packing.trained_lost)
        );
        if packing.without_trained > 0 {
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
        line(
            text,
            "packing",
            format!(
                "{} rows of {seq_len} tokens, {:.1} % full (one example a row: {:.1} %)",
                number(packing.rows),
                100.0 * packing.efficiency,
                100.0 * packing.unpacked_efficiency
            ),
        );
    }
}

fn render_billing(billing: &Billing, text: &mut String) {
    let Billing { epochs, billed_tokens, max_tokens_per_example, currency, costs, .. } = billing;
    let epochs = counted(*epochs, "epoch", "epochs");
    line(
        text,
        "billed",
        format!(
            "{} tokens: {epochs}, at most {} tokens an example",
            number64(*billed_tokens),
            number(*max_tokens_per_example as usize)
        ),
    );
    let shown: Vec<String> = costs.iter().take(6).map(|cost| format!("{} {:.2}", cost.model, cost.cost)).collect();
    if !shown.is_empty() {
        line(text, "cost", format!("in {currency}: {}", shown.join(", ")));
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

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

fn number(number: usize) -> String {
    number64(number as u64)
}

/// `1,234,567`
fn number64(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
        ReportOptions { seq_len: Some(2048), billed_per_example: 4096, prices }
    }

    #[test]
    fn figures_read_as_plain_words() {
        let text = render_statistics(&statistics(1000).report(&options()));
        expect_test::expect![[r#"
            examples     1,000 with 3,000 messages; answers in each: 1
            roles        assistant 1,000, system 1,000, user 1,000
            system       1,000 of 1,000 examples have a system message
            languages    en 666, es 334
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
            packing      222 rows of 2,048 tokens, 99.7 % full (one example a row: 22.2 %)
            billed       1,372,629 tokens: 3 epochs, at most 4,096 tokens an example
            cost         in USD: gpt-4o-mini 4.12
        "#]]
        .assert_eq(&text);
        assert!(text.lines().count() <= 40);
    }

    #[test]
    fn what_was_not_counted_is_not_shown() {
        assert_eq!(render_statistics(&Statistics::default().report(&options())), "");
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

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number64), ["0", "999", "1,000", "1,234,567"]);
    }
}
