//! The measurements as a table, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::name_of;
use crate::args::Part;

/// One part on so many threads.
pub struct Row {
    pub part: Part,
    pub threads: usize,
    /// Of each round.
    pub seconds: Vec<f64>,
    /// Of the process that measured, bytes; the largest of the rounds. 0 where the system does not tell.
    pub peak_memory: u64,
}

pub struct Results {
    /// `None`: it was made.
    pub file: Option<String>,
    pub bytes: u64,
    pub examples: usize,
    pub rounds: u32,
    pub rows: Vec<Row>,
    /// Of all measurements together.
    pub seconds: f64,
}

/// What a part adds less than this share of the whole pass is noise.
const LEAST_SHARE: f64 = 0.02;

impl Row {
    pub fn new(part: Part, threads: usize) -> Row {
        Row { part, threads, seconds: Vec::new(), peak_memory: 0 }
    }
}

impl Results {
    pub fn text(&self) -> String {
        let file = self.file.as_deref().unwrap_or("a file made of the example data");
        let mut text = format!(
            "{file}: {:.1} MB, {} records; {}, each measurement a process of its own\n\n",
            self.bytes as f64 / 1e6,
            self.examples,
            if self.rounds == 1 { "one round".to_owned() } else { format!("medians of {} rounds", self.rounds) }
        );
        let mut line = |cells: [&str; 7]| {
            let [part, threads, speed, seconds, range, added, memory] = cells;
            let line = format!("{part:<26}{threads:>7}{speed:>9}{seconds:>9}{range:>17}{added:>13}{memory:>14}");
            writeln!(text, "{}", line.trim_end()).expect("a string takes every line");
        };
        line(["part", "threads", "MB/s", "seconds", "range", "alone MB/s", "peak memory"]);
        for row in &self.rows {
            let [least, median, most] = spread(&row.seconds);
            line([
                name(row.part),
                &row.threads.to_string(),
                &format!("{:.1}", self.speed(median)),
                &format!("{median:.3}"),
                &format!("{least:.3} – {most:.3}"),
                &self.added(row).map_or("–".to_owned(), |seconds| format!("{:.1}", self.speed(seconds))),
                &match row.peak_memory {
                    0 => "–".to_owned(),
                    bytes => format!("{:.0} MB", bytes as f64 / 1e6),
                },
            ]);
        }
        text += "\nA part with a + is timed with the one before the +. Its speed alone is of the time it adds; –: nothing to compare with, or too little to tell.\n";
        text
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let [least, median, most] = spread(&row.seconds);
            let added = self.added(row);
            json!({
                "part": name_of(row.part),
                "threads": row.threads,
                "megabytes_per_second": self.speed(median),
                "seconds": median,
                "seconds_min": least,
                "seconds_max": most,
                "added_seconds": added,
                "added_megabytes_per_second": added.map(|seconds| self.speed(seconds)),
                "peak_memory_bytes": row.peak_memory,
            })
        };
        json!({
            "file": self.file,
            "bytes": self.bytes,
            "examples": self.examples,
            "rounds": self.rounds,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "seconds": self.seconds,
            "peak_memory_bytes": self.rows.iter().map(|row| row.peak_memory).max(),
        })
    }

    fn speed(&self, seconds: f64) -> f64 {
        self.bytes as f64 / 1e6 / seconds
    }

    /// What a part takes beside the one it is timed with: the median of the rounds' differences.
    fn added(&self, row: &Row) -> Option<f64> {
        let beside = beside(row.part)?;
        let other = self.rows.iter().find(|other| other.part == beside && other.threads == row.threads)?;
        let differences: Vec<f64> =
            row.seconds.iter().zip(&other.seconds).map(|(with, without)| with - without).collect();
        let [_, added, _] = spread(&differences);
        let [_, whole, _] = spread(&row.seconds);
        (added > LEAST_SHARE * whole).then_some(added)
    }
}

/// The part that another is timed with.
fn beside(part: Part) -> Option<Part> {
    match part {
        Part::Rules | Part::All => None,
        Part::Tokens => Some(Part::Statistics),
        Part::NearDuplicates | Part::Secrets | Part::Images | Part::Statistics => Some(Part::Rules),
    }
}

pub fn name(part: Part) -> &'static str {
    match part {
        Part::Rules => "rules",
        Part::NearDuplicates => "rules + near duplicates",
        Part::Secrets => "rules + secrets and PII",
        Part::Images => "rules + images",
        Part::Statistics => "rules + statistics",
        Part::Tokens => "statistics + tokens",
        Part::All => "all",
    }
}

/// Least, median and most.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 if middle > 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted.get(middle).copied().unwrap_or(f64::NAN),
    };
    [sorted.first().copied().unwrap_or(f64::NAN), median, sorted.last().copied().unwrap_or(f64::NAN)]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_part_alone_is_what_it_adds_in_the_same_round() {
        let row = |part, seconds: [f64; 3], peak_memory| Row { part, threads: 2, seconds: seconds.into(), peak_memory };
        let results = Results {
            file: None,
            bytes: 100_000_000,
            examples: 40_000,
            rounds: 3,
            rows: vec![
                row(Part::Rules, [0.5, 0.75, 0.375], 20_000_000),
                row(Part::NearDuplicates, [1.5, 1.75, 1.25], 80_000_000),
                row(Part::Secrets, [0.501, 0.751, 0.377], 20_000_000),
                row(Part::Tokens, [2.5, 2.0, 2.1], 0),
            ],
            seconds: 20.0,
        };
        expect![[r#"
            a file made of the example data: 100.0 MB, 40000 records; medians of 3 rounds, each measurement a process of its own

            part                      threads     MB/s  seconds            range   alone MB/s   peak memory
            rules                           2    200.0    0.500    0.375 – 0.750            –         20 MB
            rules + near duplicates         2     66.7    1.500    1.250 – 1.750        100.0         80 MB
            rules + secrets and PII         2    199.6    0.501    0.377 – 0.751            –         20 MB
            statistics + tokens             2     47.6    2.100    2.000 – 2.500            –             –

            A part with a + is timed with the one before the +. Its speed alone is of the time it adds; –: nothing to compare with, or too little to tell.
        "#]].assert_eq(&results.text());
        let json = results.json();
        assert_eq!((&json["rows"][1]["added_seconds"], &json["rows"][2]["added_seconds"]), (&json!(1.0), &Value::Null));
        assert_eq!(json["peak_memory_bytes"], json!(80_000_000));
    }

    #[test]
    fn an_even_number_of_rounds_has_its_median_between_two() {
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), [1.0, 2.5, 4.0]);
        assert_eq!(spread(&[2.0]), [2.0, 2.0, 2.0]);
    }
}
