//! One JSON object: the diagnostics, a line each, then the summary.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::{diagnostic::Diagnostic, read::Summary};

#[derive(Default)]
pub(super) struct Json {
    begun: bool,
}

impl Json {
    pub(super) fn show(&mut self, diagnostic: &Diagnostic, out: &mut dyn Write) -> io::Result<()> {
        let before: &[u8] = if std::mem::replace(&mut self.begun, true) { b"," } else { b"{\"diagnostics\": [" };
        out.write_all(before)?;
        Ok(serde_json::to_writer(out, diagnostic)?)
    }

    pub(super) fn finish(self, summary: &Summary, more: Map<String, Value>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.begun { b"], \"summary\": " } else { b"{\"diagnostics\": [], \"summary\": " })?;
        let mut summary = serde_json::to_value(summary)?;
        if let Value::Object(keys) = &mut summary {
            keys.extend(more);
        }
        serde_json::to_writer(&mut *out, &summary)?;
        out.write_all(b"}\n")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::report::{Report, ReportFormat, tests::report};

    #[test]
    fn diagnostics_come_first_and_the_summary_last() {
        expect![[r#"
            {"diagnostics": [{"rule":"missing-user-message","severity":"warning","file":"x.jsonl","line":1,"column":13,"pointer":"/messages","message":"expected a user message, found none","hint":"add what the assistant answers to"},{"rule":"unknown-role","severity":"error","file":"x.jsonl","line":1,"column":22,"pointer":"/messages/0/role","message":"expected role `system`, `user`, `assistant` or `tool`, found `bot`","hint":"write `assistant`"},{"rule":"missing-user-message","severity":"warning","file":"x.jsonl","line":2,"column":13,"pointer":"/messages","message":"expected a user message, found none","hint":"add what the assistant answers to"},{"rule":"unknown-role","severity":"error","file":"x.jsonl","line":2,"column":22,"pointer":"/messages/0/role","message":"expected role `system`, `user`, `assistant` or `tool`, found `bot`","hint":"write `assistant`"},{"rule":"few-examples","severity":"info","file":"x.jsonl","line":1,"column":1,"pointer":"","message":"expected 50 examples to start with, found 2","hint":"add examples if the answers do not get better"},{"rule":"missing-system-message","severity":"info","file":"x.jsonl","line":1,"column":1,"pointer":"","message":"2 of 2 examples have no system message, the first is here","hint":"train with the system prompt that you will use"}], "summary": {"examples":2,"valid":0,"errors":2,"warnings":2,"infos":2,"bytes":88}}
        "#]].assert_eq(&report(ReportFormat::Json, 1));
    }

    #[test]
    fn a_file_without_faults_is_an_object_too() {
        let mut out = Vec::new();
        let more = Map::from_iter([("tokens".to_owned(), 7.into())]);
        Report::new(ReportFormat::Json, 1, false, &mut out).finish_with(&Summary::default(), more).unwrap();
        expect![[r#"
            {"diagnostics": [], "summary": {"examples":0,"valid":0,"errors":0,"warnings":0,"infos":0,"bytes":0,"tokens":7}}
        "#]].assert_eq(&String::from_utf8(out).unwrap());
    }
}
