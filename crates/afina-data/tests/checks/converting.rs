//! Converting: each record is written or refused, and what is written is valid.

use std::io::BufReader;

use afina_data::{Conversion, ConvertError, Format, Method, Note, Profile, ReadOptions, Severity, convert, separators};

use super::{NAME, Read, text};

/// Returns the number of records that were written; 0 for a file that is no text.
pub fn check(data: &[u8], from: Option<Format>, piece: usize) -> usize {
    let Ok((done, out, notes)) = converted(data, from, data.len() + 1) else { return 0 };
    let shown = || format!("{from:?} {:?} → {:?}", text(data), text(&out));
    assert_eq!(done.records, done.written + done.refused, "{}", shown());
    assert_eq!(done.written, out.iter().filter(|byte| **byte == b'\n').count(), "{}", shown());
    assert!(notes.iter().filter(|note| note.severity == Severity::Error).count() >= done.refused, "{}", shown());
    if done.written > 0 {
        let method = if out.starts_with(b"{\"input\"") { Method::Dpo } else { Method::Sft };
        let read = Read::new(&out, &ReadOptions::new(method, Profile::OpenAi));
        let errors = read.diagnostics().filter(|found| found.severity == Severity::Error);
        let errors: Vec<_> = errors.filter(|found| found.rule != "too-few-examples").map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{errors:#?} {}", shown());
    }
    let pieces = converted(data, from, piece).expect("it was converted before");
    assert!(pieces == (done.clone(), out.clone(), notes), "{piece} bytes at a time: {}", shown());
    done.written
}

fn converted(
    data: &[u8],
    from: Option<Format>,
    piece: usize,
) -> Result<(Conversion, Vec<u8>, Vec<Note>), ConvertError> {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let source = || BufReader::with_capacity(piece, data);
    let common = separators(&mut source(), from).expect("memory is read");
    let done = convert(&mut source(), NAME, from, common, &mut out, &mut |note| notes.push(note))?;
    Ok((done, out, notes))
}
