use super::super::Parser;
use super::*;

#[track_caller]
fn check(text: &str, expected: &[(Cause, usize)]) {
    let mut parser = Parser::default();
    let parsed = parser.parse(text, 0);
    let faults: Vec<_> = parsed.faults.iter().map(|fault| (fault.cause, fault.offset)).collect();
    assert_eq!(faults, expected, "{text}");
    assert_eq!(parsed.root().is_some(), !expected.iter().any(|(cause, _)| cause.is_fatal()), "{text}");
}

#[test]
fn the_end_of_a_text_is_found_wherever_it_is() {
    for length in 0..80 {
        for end in [b'"', b'\\'] {
            // Neighbours of what is looked for, and bytes with their highest bit set.
            let mut bytes: Vec<u8> = (0..length).map(|at| b"!#[]\xDC\xA2\x01\x00z"[at % 9]).collect();
            assert_eq!(find_end(&bytes, b'"'), None);
            bytes.extend([end, b'"', b'\\', b'a', b'"', b'"']);
            assert_eq!(find_end(&bytes, b'"'), Some(length), "{length}");
        }
    }
}

#[test]
fn json_has_no_faults() {
    for text in
        ["0", "-0.5e+3", "true", "[]", "{}", r#""""#, r#"{"a":[1,{"b":null}],"c":"\u00e9\ud83d\ude00"}"#, " [ 1 , 2 ] "]
    {
        check(text, &[]);
    }
}

#[test]
fn small_faults_are_read_past() {
    check(r#"{"a":[1,],}"#, &[(Cause::TrailingComma, 7), (Cause::TrailingComma, 9)]);
    check("{'a': True, 'b': None}", &[(Cause::PythonNotation, 1)]);
    check("[1, /* x */ 2] // y", &[(Cause::Comment, 4), (Cause::Comment, 15)]);
    check("[NaN, -Infinity]", &[(Cause::NotFinite, 1), (Cause::NotFinite, 6)]);
    check("[\"a\tb\"]", &[(Cause::ControlCharacter(b'\t'), 3)]);
    check(r#"["C:\Users\me"]"#, &[(Cause::InvalidEscape, 4)]);
    check(
        r#"["\u12","\ud83d","\udc00x"]"#,
        &[(Cause::InvalidEscape, 2), (Cause::LoneSurrogate, 9), (Cause::LoneSurrogate, 18)],
    );
}

#[test]
fn each_fatal_fault_has_its_cause_and_place() {
    check(r#"{"a":"she said "hi" to me"}"#, &[(Cause::UnescapedQuote, 15)]);
    check(r#"{"a":"5" tall"}"#, &[(Cause::UnescapedQuote, 7)]);
    check(r#"{"a":[1,2"#, &[(Cause::Truncated { inside: Kind::Array }, 9)]);
    check(r#"{"a":"b"#, &[(Cause::Truncated { inside: Kind::String }, 7)]);
    check(r#"{"a" [1]}"#, &[(Cause::MissingColon, 5)]);
    check(r#"{a:1}"#, &[(Cause::UnquotedKey, 1)]);
    check(r#"["a" "b"]"#, &[(Cause::MissingComma, 5)]);
    check(r#"{"a":"b";"c":1}"#, &[(Cause::MissingComma, 8)]);
    check(r#"{"a":1; "c":1}"#, &[(Cause::MissingComma, 6)]);
    check(r#"["a";"b"]"#, &[(Cause::MissingComma, 4)]);
    check(r#"{"a":"the "word"; and"}"#, &[(Cause::UnescapedQuote, 10)]);
    check(r#"[{"a":1} {"a":2}]"#, &[(Cause::MissingComma, 9)]);
    check(r#"{"m":[1],{"r":2}}"#, &[(Cause::ClosedEarly { closed: 7 }, 9)]);
    check(r#"{"a":[1}"#, &[(Cause::WrongBracket { expected: ']' }, 7)]);
    check(r#"{"a":1]"#, &[(Cause::WrongBracket { expected: '}' }, 6)]);
    check("{“a”:1}", &[(Cause::SmartQuote, 1)]);
    for number in ["01", ".5", "+1", "1.", "1e", "-", "0x1f", "1_000"] {
        check(&format!("[{number}]"), &[(Cause::BadNumber, 1)]);
    }
    check("[1,,2]", &[(Cause::Unexpected { expected: "a value" }, 3)]);
    check("oops", &[(Cause::Unexpected { expected: "a value" }, 0)]);
    check("[1}", &[(Cause::WrongBracket { expected: ']' }, 2)]);
}

#[test]
fn what_serde_json_takes_is_taken_and_nothing_else() {
    let seeds = [
        r#"{"a":[1,-2.5e3,"x\n\u00e9",true,null],"b":{"c":[],"d":{}}}"#,
        r#"[{"r":"u","c":"é😀"},0,1.5]"#,
        r#""a\\b""#,
    ];
    let mut random = crate::testing::Random(7);
    let mut taken = 0;
    for round in 0..30_000 {
        let bytes = crate::testing::mutate(seeds[round % seeds.len()].as_bytes(), &mut random);
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        if theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range")) {
            continue;
        }
        let mut parser = Parser::default();
        let parsed = parser.parse(text, 0);
        let ours = parsed.faults.is_empty() && parsed.end == text.len();
        assert_eq!(ours, theirs.is_ok(), "{text:?}: {:?}, {theirs:?}", parsed.faults);
        taken += usize::from(ours);
    }
    assert!(taken > 3000, "{taken}: the test must see good texts too");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check(&nested(MAX_DEPTH), &[]);
    check(&nested(MAX_DEPTH + 1), &[(Cause::TooDeep, MAX_DEPTH)]);
}

#[test]
fn what_follows_the_first_value_is_left() {
    let mut parser = Parser::default();
    let parsed = parser.parse(r#"{"a":1}  {"b":2}"#, 0);
    assert_eq!((parsed.end, parsed.root().unwrap().raw()), (9, r#"{"a":1}"#));
    assert_eq!(parser.parse(r#"{"a":1}  {"b":2}"#, 9).root().unwrap().raw(), r#"{"b":2}"#);
}
